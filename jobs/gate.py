"""May the model be promoted? GO, HOLD or NO-GO from the rules of `conf/gate.yml` and the evidence marts.

Any hard rule that fails: NO-GO. Else any evidence missing: HOLD. Else any soft rule that fails: HOLD. Else GO.
Nothing is computed from data here: every value is read from a mart, so a person can read the same one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import duckdb
from pydantic import Field, model_validator

from jobs.mart_checks import Check, Name, digest, measure, one_row, reading
from jobs.policies import Number, Policy, Text, read_policy

Verdict = Literal["GO", "HOLD", "NO-GO"]
Missing = Literal["missing_quality_evidence", "missing_operational_evidence", "missing_value_evidence"]

# The one rule that is not in the file: a file cannot vouch for its own age.
REGISTRATION = "gate_registered_before_evaluation"
MISSING_REGISTRATION = "missing_gate_registration"


class Rule(Check):
    """A check that blocks promotion for good (hard) or until somebody looked (soft)."""

    severity: Literal["hard", "soft"]
    on_missing: Missing  # the reason a HOLD gives when there is no value


class VerdictRow(Policy):
    """Where the chosen k stands: the row of `mart` kept by `where`, and its columns."""

    mart: Name
    where: Text
    k: Name
    model_id: Name


class Gate(Policy):
    """The whole file."""

    margin_relative_logloss: Annotated[Number, Field(gt=0, lt=1)]
    verdict: VerdictRow
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Gate:
        names = [rule.name for rule in self.rules]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"rules must have different names, got {name!r} twice")
        if REGISTRATION in names:
            raise ValueError(f"rules must not be named {REGISTRATION!r}: that rule is always there")
        return self

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
    outcome: Literal["pass", "fail", "missing"]
    why: str


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


def load_gate(path: Path) -> Gate:
    """The gate in the YAML file `path`; PolicyError names file, place, rule and value of each fault."""
    return read_policy(path, Gate)


def evaluate(gate: Gate, mart_database: Path, registered_sha: str | None) -> Evaluation:
    """Judge the evidence in `mart_database`, opened read-only, by `gate`.

    `registered_sha` is the gate's sha as it was recorded before evaluation started: thresholds that were changed
    after the results were seen end in NO-GO, and None (never recorded) in HOLD. Raises MartError when the database
    cannot be read or a rule's SQL does not fit its mart.
    """
    with reading(mart_database) as connection:
        k, model_id = _chosen(connection, gate.verdict)
        found = [(rule, _judge(rule, measure(connection, rule))) for rule in gate.rules]
        marts = [f"{mart} {digest(connection, mart)}" for mart in gate.marts]
    results = [_registration(gate.sha, registered_sha), *(result for _, result in found)]
    missing = {rule.name: rule.on_missing for rule in gate.rules} | {REGISTRATION: MISSING_REGISTRATION}
    verdict, reason = _verdict(results, missing, k)
    evidence_sha = hashlib.sha256("\n".join(marts).encode()).hexdigest()
    return Evaluation(verdict, reason, k, model_id, tuple(results), gate.sha, evidence_sha)


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


def _registration(sha: str, registered_sha: str | None) -> RuleResult:
    value = None if registered_sha is None else float(registered_sha == sha)
    outcome = "missing" if value is None else "pass" if value else "fail"
    why = "A threshold chosen after seeing the results proves nothing."
    return RuleResult(REGISTRATION, "hard", "gate", "1 if the gate is the one recorded", "==", 1.0, value, outcome, why)


def _verdict(results: list[RuleResult], missing: dict[str, str], k: int | None) -> tuple[Verdict, str]:
    """The verdict and, in one sentence, every rule that decided it."""
    hard = [result for result in results if result.outcome == "fail" and result.severity == "hard"]
    absent = [result for result in results if result.outcome == "missing"]
    soft = [result for result in results if result.outcome == "fail" and result.severity == "soft"]
    if hard:
        return "NO-GO", "; ".join(_breach(result) for result in hard)
    if absent:
        return "HOLD", "; ".join(f"{missing[r.rule]}: {r.rule} has no value in {r.mart}" for r in absent)
    if soft:
        return "HOLD", "; ".join(_breach(result) for result in soft)
    if k is None:
        return "HOLD", "missing_quality_evidence: no k was chosen"
    return "GO", f"all {len(results)} rules pass for k = {k}"


def _breach(result: RuleResult) -> str:
    return f"{result.rule}: {result.value:.6g}, must be {result.operator} {result.threshold:.6g}"
