"""A decision in lines of text: every rule with what it read, the k compared, what blocks and what would change it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from jobs import decision_log
from jobs.cycle import Cycle
from jobs.gate import REGISTRATION

BY_K = """
    select k, is_verdict, delta_logloss, delta_lo_simultaneous, delta_hi_simultaneous, margin, is_non_inferior,
        usd_per_1m_scores, infeasible_reason
    from fct_accuracy_cost_by_k
    where not is_baseline
    order by k
"""
INCUMBENT = """
    select incumbent_source, incumbent_model_id, delta_logloss, delta_lo, delta_hi, needs, allowed_delta, is_earned,
        challenger_usd_per_1m, incumbent_usd_per_1m
    from fct_incumbent_comparison
"""
ACTIONS = {
    "promote": "the model becomes champion",
    "wait": "nothing; more test data may decide it",
    "look": "somebody has to look: mend what blocks, or approve or waive it where the gate allows that",
    "rescope": "kill or rescope: nothing was promoted and nothing gained for too long",
}


def mart_of(cycle: Cycle) -> Path | None:
    """The mart that the cycle's decision was read from: being built, or published; None if neither is there."""
    run = cycle.state()["run"]
    names = [f".building-{run.get('release_id')}", run.get("published_id"), run.get("release_id")]
    found = (cycle.warehouse / "releases" / str(name) / "mart.duckdb" for name in names if name)
    return next((path for path in found if path.is_file()), None)


def lines(entry: decision_log.Entry, approval: decision_log.Entry | None, mart: Path | None) -> list[str]:
    """The decision `entry` with its approval, and the comparison behind it if its `mart` is there."""
    said = entry.payload
    registered = next((rule["value"] for rule in said["rules"] if rule["rule"] == REGISTRATION), None)
    told = {None: "unknown", 1.0: "true"}.get(registered, "false: the gate changed")
    found = [
        f"{said['verdict']} on {said['contract']} {said['cycle_date']}: {said['reason']}",
        f"decision {entry.decision_id}, made {entry.at} by {said.get('by', 'unknown')}",
        f"gate_sha={said['gate_sha']}",
        f"registered_before_eval={told}",
        f"evidence_sha={said['evidence_sha']}",
        f"chosen k = {said['k']}, model {said['model_id']}",
        *([] if mart is None else _comparison(mart)),
        "Rules:",
        *(_rule(rule) for rule in said["rules"]),
    ]
    blocking = [rule for rule in said["rules"] if rule["outcome"] in ("fail", "missing")]
    found += ["Blocks: " + (", ".join(rule["rule"] for rule in blocking) or "nothing")]
    found += [f"  {rule['rule']} would change: {_change(rule)}" for rule in blocking]
    if approval is not None:
        by = approval.payload
        return [*found, f"Approved by {by['by']}: {by['why']}. {by['promotes']} is promoted."]
    action = said.get("next_action")
    return [*found, f"Next: {ACTIONS[action]}."] if action in ACTIONS else found


def _rule(rule: dict[str, Any]) -> str:
    value = "no value" if rule["value"] is None else f"{rule['value']:.6g}"
    note = f"  ({rule['note']})" if rule.get("note") else ""
    return (
        f"  {rule['outcome']:<7} {rule['severity']:<4} {rule['rule']}: {value} {rule['operator']}"
        f" {rule['threshold']:.6g}  [{rule['mart']}]{note}"
    )


def _change(rule: dict[str, Any]) -> str:
    if rule["outcome"] == "missing":
        return f"a value of {rule['metric']} in {rule['mart']}"
    return rule.get("note") or f"a value {rule['operator']} {rule['threshold']:.6g}"


def _comparison(mart: Path) -> list[str]:
    """The k that were compared, with margin and interval, and the model against what serves."""
    try:
        with duckdb.connect(str(mart), read_only=True) as connection:
            by_k, incumbents = connection.execute(BY_K).fetchall(), connection.execute(INCUMBENT).fetchall()
    except (duckdb.CatalogException, duckdb.BinderException):  # a release from before these were compared
        return []
    found = ["k, logloss against the best k (95 % interval, simultaneous), margin, USD per million scores:"]
    for k, is_verdict, delta, lo, hi, margin, fits, usd, limit in by_k:
        judged = limit or ("within the margin" if fits else "not shown to be within the margin")
        mark = "*" if is_verdict else " "
        found.append(
            f"{mark} k = {k}: {_interval(delta, lo, hi)}, margin {_number(margin)}, {_number(usd)} USD: {judged}"
        )
    for source, model_id, delta, lo, hi, needs, allowed, is_earned, usd, other_usd in incumbents:
        judged = {True: "earned", False: "not earned", None: "cannot be said"}[is_earned]
        found.append(
            f"Against the {source}, {model_id}: {_interval(delta, lo, hi)}, {_number(usd)} against"
            f" {_number(other_usd)} USD per million scores; needs {needs or 'a cost'}"
            f" (at most {_number(allowed)}): {judged}"
        )
    return found


def _interval(delta: float | None, lo: float | None, hi: float | None) -> str:
    return f"{_number(delta)} ({_number(lo)} to {_number(hi)})"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:+.3g}" if value < 0 else f"{value:.3g}"
