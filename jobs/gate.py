"""May the model be promoted? GO, HOLD or NO-GO from the rules of `conf/gate.yml` and the evidence marts.

Any hard rule that fails: NO-GO. Else any evidence missing: HOLD. Else any soft rule that fails and is not waived: HOLD.
Else GO. Nothing is computed from data here: every value is read from a mart, so a person can read the same one. What
would change an outcome is said with it: how many more test periods, where an interval leaves the question open.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import duckdb
from pydantic import Field, model_validator

from jobs import power, pricing
from jobs.mart_checks import Check, MartError, Name, digest, measure, one_row, reading
from jobs.policies import Number, Policy, Rates, Text, read_policy

Verdict = Literal["GO", "HOLD", "NO-GO"]
Missing = Literal["missing_quality_evidence", "missing_operational_evidence", "missing_value_evidence"]

# Rules that are not in the file: it cannot vouch for its own age, and a limit that every k breaks is no k's own fault.
REGISTRATION = "gate_registered_before_evaluation"
FEASIBLE = "some_k_is_feasible"
MISSING_REGISTRATION = "missing_gate_registration"


class Open(Policy):
    """The 95 % t interval over `periods` test periods that a rule waits for: the rule holds once `end`, the end of the
    interval of `estimate`, has passed `target`. SQL over the rule's mart and rows."""

    estimate: Text
    end: Text | None = None  # default: the rule's metric
    target: Text | None = None  # default: the rule's threshold
    periods: Text


class Rule(Check):
    """A check that blocks promotion for good (hard) or until somebody looked (soft)."""

    severity: Literal["hard", "soft"]
    on_missing: Missing  # the reason a HOLD gives when there is no value
    on_breach: Text | None = None  # what a breach means, for the reader of the reason
    interval: Open | None = None


class LiveRule(Check):
    """A check of what is served, read by the guard after publication. A hard one that is broken leads back to an
    earlier release; a soft one is told. A rule without a value is not known, and breaks nothing."""

    severity: Literal["hard", "soft"]
    # What a breach is the fault of: of this release, then the one before is shown; of the model, which may have served
    # that as well, then the last one of another model.
    blames: Literal["release", "model"] = "release"
    on_breach: Text | None = None


class VerdictRow(Policy):
    """Where the chosen k stands: the row of `mart` kept by `where`, and its columns; `among` keeps the rows of all k
    that it was chosen from."""

    mart: Name
    where: Text
    among: Text | None = None
    k: Name
    model_id: Name


class Gate(Policy):
    """The whole file."""

    margin_relative_logloss: Annotated[Number, Field(gt=0, lt=1)]
    margin_relative_cost: Annotated[Number, Field(ge=0, lt=1)]
    verdict: VerdictRow
    approvers: tuple[Text, ...] = ()  # who may approve a HOLD and waive a soft rule
    approve_within_days: Annotated[int, Field(strict=True, ge=1)] = 7
    kill_after: Annotated[int, Field(strict=True, ge=1)] | None = None  # cycles without promotion and without value
    value_rule: Name | None = None  # the rule whose passing shows value
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    live: tuple[LiveRule, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Gate:
        names = [rule.name for rule in self.rules]
        for name in (every := [*names, *(rule.name for rule in self.live)]):
            if every.count(name) > 1:
                raise ValueError(f"rules must have different names, got {name!r} twice")
        for name in (REGISTRATION, FEASIBLE):
            if name in names:
                raise ValueError(f"rules must not be named {name!r}: that rule is always there")
        if (self.kill_after is None) != (self.value_rule is None):
            raise ValueError("kill_after and value_rule must be given together")
        if self.value_rule is not None and self.value_rule not in names:
            raise ValueError(f"value_rule must be the name of a rule, got {self.value_rule!r}")
        return self

    @property
    def limits(self) -> tuple[Rule, ...]:
        """The rules that say whether a single model can run: hard, operational, on a column of the verdict's row."""
        return tuple(
            rule
            for rule in self.rules
            if (rule.severity, rule.on_missing) == ("hard", "missing_operational_evidence")
            and (rule.mart, rule.where) == (self.verdict.mart, self.verdict.where)
            and re.fullmatch(r"[a-z][a-z0-9_]*", rule.metric)
        )

    @property
    def marts(self) -> list[str]:
        """The evidence: every mart that a rule or the verdict reads."""
        read = {mart for rule in self.rules for mart in (rule.mart, *rule.also_reads)}
        return sorted({self.verdict.mart} | read)


@dataclass(frozen=True)
class RuleResult:
    """One rule, what it read and what came of it; the columns of the fact `decision_rules`."""

    rule: str
    severity: str
    mart: str
    metric: str
    operator: str
    threshold: float
    value: float | None  # None: evidence missing
    outcome: Literal["pass", "fail", "missing", "waived"]
    why: str
    note: str | None = None  # what would change the outcome, or who waived the rule and why
    periods_needed: int | None = None  # more of them, for 80 % power; None where that is not the question
    days_needed: int | None = None


@dataclass(frozen=True)
class Waiver:
    """A soft rule that somebody lets pass for a while."""

    rule: str
    by: str
    why: str
    until: dt.date  # the last cycle it counts for


@dataclass(frozen=True)
class Evaluation:
    """The verdict with everything it rests on."""

    verdict: Verdict
    reason: str
    k: int | None
    model_id: str | None
    rules: tuple[RuleResult, ...]
    gate_sha: str
    evidence_sha: str
    next_action: str = ""  # promote | wait | look | rescope


def load_gate(path: Path) -> Gate:
    """The gate in the YAML file `path`; PolicyError names file, place, rule and value of each fault."""
    return read_policy(path, Gate)


def infeasible(
    gate: Gate, rates: Rates, models: Iterable[Mapping[str, Any]], costs: Iterable[Mapping[str, Any]]
) -> dict[int, str]:
    """k -> which limits of `gate` it breaks, for the k that break one.

    `models`, `costs`: rows of the facts `models` and `scoring_cost`. A k is judged by its FFM candidate of the seed
    that goes live; a limit on something that was not measured is not broken (the gate will miss the evidence).
    """
    ours = [m for m in models if (m["algorithm"], m["role"]) == ("ffm", "candidate") and m["is_shipping_seed"]]
    found = {}
    for row in pricing.operational_rows(rates, ours, costs):
        values = [(rule, row[rule.metric]) for rule in gate.limits if row.get(rule.metric) is not None]
        broken = [_breach(rule, value) for rule, value in values if not rule.holds(value)]
        if broken:
            found[row["k"]] = "; ".join(broken)
    return found


def evaluate(
    gate: Gate,
    mart_database: Path,
    registered_sha: str | None,
    waivers: Iterable[Waiver] = (),
    period_days: int | None = None,
) -> Evaluation:
    """Judge the evidence in `mart_database`, opened read-only, by `gate`.

    `registered_sha` is the gate's sha as it was recorded before evaluation started: thresholds that were changed
    after the results were seen end in NO-GO, and None (never recorded) in HOLD. `waivers` are those in force; they let
    soft rules pass that fail, never hard ones, and never missing evidence. `period_days`: length of a test period.
    Raises MartError when the database cannot be read or a rule's SQL does not fit its mart.
    """
    waived = {waiver.rule: waiver for waiver in waivers}
    with reading(mart_database) as connection:
        k, model_id = _chosen(connection, gate.verdict)
        found = []
        for rule in gate.rules:
            result = _judge(rule, measure(connection, rule))
            if result.outcome == "fail" and rule.severity == "soft" and rule.name in waived:
                result = _let_pass(result, waived[rule.name])
            elif result.outcome == "fail" and rule.interval is not None:
                result = _open_question(connection, rule, rule.interval, result, period_days)
            found.append(result)
        feasible = _feasible(connection, gate)
        evidence = _evidence_sha(connection, gate)
    results = [_registration(gate.sha, registered_sha), *feasible, *found]
    verdict, reason = _verdict(results, gate, k)
    action = _next_action(verdict, results)
    return Evaluation(verdict, reason, k, model_id, tuple(results), gate.sha, evidence, action)


def evidence_sha(gate: Gate, mart_database: Path) -> str:
    """Hash of the content of every mart that `gate` reads; MartError if the database cannot be read."""
    with reading(mart_database) as connection:
        return _evidence_sha(connection, gate)


def _evidence_sha(connection: duckdb.DuckDBPyConnection, gate: Gate) -> str:
    marts = [f"{mart} {digest(connection, mart)}" for mart in gate.marts]
    return hashlib.sha256("\n".join(marts).encode()).hexdigest()


def _chosen(connection: duckdb.DuckDBPyConnection, row: VerdictRow) -> tuple[int | None, str | None]:
    """The verdict's k and model, (None, None) if no model was chosen."""
    found = one_row(connection, row.mart, f"{row.k}, {row.model_id}", row.where)
    return (int(found[0]), str(found[1])) if found else (None, None)


def _judge(rule: Rule, value: float | None) -> RuleResult:
    outcome = "missing" if value is None else "pass" if rule.holds(value) else "fail"
    metric = f"{rule.metric} where {rule.where}" if rule.where else rule.metric
    return RuleResult(
        rule.name, rule.severity, rule.mart, metric, rule.operator, rule.threshold, value, outcome, rule.why
    )


def _let_pass(result: RuleResult, waiver: Waiver) -> RuleResult:
    return replace(result, outcome="waived", note=f"waived by {waiver.by} until {waiver.until}: {waiver.why}")


def _open_question(
    connection: duckdb.DuckDBPyConnection, rule: Rule, wanted: Open, result: RuleResult, period_days: int | None
) -> RuleResult:
    """`result` with how many more test periods would let the rule hold, if the estimate is the truth."""
    target = wanted.target or repr(rule.threshold)
    asked = (wanted.estimate, wanted.end or rule.metric, target, wanted.periods)
    columns = ", ".join(f"cast({sql} as double)" for sql in asked)
    try:
        row = one_row(connection, rule.mart, columns, rule.where, rule.also_reads)
    except MartError as error:
        raise MartError(f"{rule.name}.interval: {error}") from None
    if row is None or any(value is None for value in row) or row[3] < 2 or row[0] == row[1]:
        return result  # there is no interval
    estimate, end, wall, periods = *row[:3], int(row[3])
    distance = estimate - wall if end < estimate else wall - estimate  # the end must come to lie beyond it
    error = power.error_of(abs(end - estimate), periods)
    needed = power.periods_needed(error, periods, distance)
    if needed is None:
        return replace(result, note="more test data would not: the estimate itself lies on the wrong side")
    more = max(needed - periods, 1)
    days = more * period_days if period_days else None
    time = f" ({days} days)" if days else ""
    note = f"about {more} more period{'s' if more > 1 else ''}{time} of test data would decide it with 80 % power"
    return replace(result, note=note, periods_needed=more, days_needed=days)


def _registration(sha: str, registered_sha: str | None) -> RuleResult:
    value = None if registered_sha is None else float(registered_sha == sha)
    outcome = "missing" if value is None else "pass" if value else "fail"
    why = "A threshold chosen after seeing the results proves nothing."
    return RuleResult(REGISTRATION, "hard", "gate", "1 if the gate is the one recorded", "==", 1.0, value, outcome, why)


def _feasible(connection: duckdb.DuckDBPyConnection, gate: Gate) -> list[RuleResult]:
    """How many of the k that could be chosen keep every limit; nothing where the file does not say which these are."""
    row, limits = gate.verdict, gate.limits
    if row.among is None or not limits:
        return []
    broken = {rule.name: f"not coalesce({rule.metric} {_sql(rule)} {rule.threshold!r}, true)" for rule in limits}
    count = f"count(*) filter (where not ({' or '.join(broken.values())}))"
    which = [f"string_agg({row.k}, ', ' order by {row.k}) filter (where {sql})" for sql in broken.values()]
    found = one_row(connection, row.mart, ", ".join((f"case when count(*) > 0 then {count} end", *which)), row.among)
    value = None if found is None or found[0] is None else float(found[0])
    outcome = "missing" if value is None else "pass" if value >= 1 else "fail"
    said = [f"{name}: k = {ks}" for name, ks in zip(broken, found[1:], strict=True) if ks] if found else []
    note = f"limits broken by {'; '.join(said)}" if said else None
    metric = f"rows within {', '.join(broken)} where {row.among}"
    why = "A model that breaks a limit cannot run, however good it is."
    return [RuleResult(FEASIBLE, "hard", row.mart, metric, ">=", 1.0, value, outcome, why, note)]


def _sql(rule: Rule) -> str:
    return "=" if rule.operator == "==" else rule.operator


def _verdict(results: list[RuleResult], gate: Gate, k: int | None) -> tuple[Verdict, str]:
    """The verdict and, in one sentence, every rule that decided it."""
    missing: dict[str, str] = {rule.name: rule.on_missing for rule in gate.rules}
    missing |= {REGISTRATION: MISSING_REGISTRATION, FEASIBLE: "missing_operational_evidence"}
    means = {rule.name: rule.on_breach for rule in gate.rules}
    hard = [result for result in results if result.outcome == "fail" and result.severity == "hard"]
    absent = [result for result in results if result.outcome == "missing"]
    soft = [result for result in results if result.outcome == "fail" and result.severity == "soft"]
    waived = [result for result in results if result.outcome == "waived"]
    if hard:
        return "NO-GO", "; ".join(_told(result, means.get(result.rule)) for result in hard)
    if absent:
        return "HOLD", "; ".join(f"{missing[r.rule]}: {r.rule} has no value in {r.mart}" for r in absent)
    if soft:
        return "HOLD", "; ".join(_told(result, means.get(result.rule)) for result in soft)
    if k is None:
        return "HOLD", "missing_quality_evidence: no k was chosen"
    if waived:
        told = "; ".join(f"{result.rule} {result.note}" for result in waived)
        return "GO", f"{len(results) - len(waived)} of {len(results)} rules pass for k = {k}; {told}"
    return "GO", f"all {len(results)} rules pass for k = {k}"


def _next_action(verdict: Verdict, results: list[RuleResult]) -> str:
    """What follows for people: promote; wait, where time alone may decide it; look, where somebody has to."""
    if verdict == "GO":
        return "promote"
    blocking = [result for result in results if result.outcome in ("fail", "missing")]
    return "wait" if verdict == "HOLD" and all(r.periods_needed is not None for r in blocking) and blocking else "look"


def _told(result: RuleResult, means: str | None) -> str:
    """A breach, what it means, and what would change it."""
    said = f"{result.rule}: {result.value:.6g}, must be {result.operator} {result.threshold:.6g}"
    more = [text.rstrip(".") for text in (means, result.note) if text]
    return f"{said} ({'; '.join(more)})" if more else said


def _breach(rule: Rule, value: float) -> str:
    return f"{rule.name}: {value:.6g}, must be {rule.operator} {rule.threshold:.6g}"
