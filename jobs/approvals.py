"""What people add to the gate: an approval promotes a model that was held, a waiver lets a soft rule pass for a while.

Both are entries of the decision log, given by one of the gate's `approvers`. Neither reaches a hard rule or stands in
for evidence that is missing.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from pyspark.sql import SparkSession

from jobs import decide, decision_log, gate
from jobs.cycle import Cycle


class ApprovalError(ValueError):
    """An approval or a waiver that cannot be given; the message says which rule forbids it."""


def approve(
    cycle: Cycle,
    spark: SparkSession,
    policy: Path,
    by: str,
    why: str,
    decision_id: str | None = None,
    now: dt.datetime | None = None,
) -> decision_log.Entry:
    """Promote the model of the cycle's last decision, a HOLD, as a GO would have; returns the entry.

    `decision_id`: the decision that was looked at, if it has to be that one. Given again it changes nothing. Raises
    ApprovalError if there is nothing to approve, or nobody may.
    """
    decision = approvable(cycle, gate.load_gate(policy), by, why, decision_id, now)
    approval = decision_log.approval_of(decision_log.entries(cycle.warehouse), decision.decision_id)
    if approval is None:
        said = decision.payload
        promotes = decide.refit(cycle, spark, said["model_id"])
        payload = {
            "contract": cycle.contract.name,
            "cycle_date": said["cycle_date"],
            "decision_id": decision.decision_id,
            "promotes": promotes,
            "by": by.strip(),
            "why": why.strip(),
            **{name: said[name] for name in ("gate_sha", "evidence_sha")},
            "release_id": said.get("release_id"),
        }
        approval = decision_log.append(cycle.warehouse, "approval", payload, now)
    decision_log.write_aliases(cycle.warehouse)
    decide.write_facts(cycle)
    return approval


def approvable(
    cycle: Cycle, policy: gate.Gate, by: str, why: str, decision_id: str | None = None, now: dt.datetime | None = None
) -> decision_log.Entry:
    """The cycle's decision, if `by` may approve it at `now`; else ApprovalError."""
    of = f"{cycle.contract.name} {cycle.date}"
    _check_person(policy, by, why)
    decision = decision_log.last_decision(cycle.warehouse, cycle.contract.name, cycle.date)
    if decision is None:
        raise ApprovalError(f"nothing was decided on {of}: run `fieldmart decide` first")
    said = decision.payload
    if decision_id not in (None, decision.decision_id):
        raise ApprovalError(f"--decision must be that in force on {of}, {decision.decision_id}, got {decision_id}")
    if said["verdict"] != "HOLD":
        raise ApprovalError(f"only a HOLD can be approved, got {said['verdict']} on {of}: {said['reason']}")
    if said["gate_sha"] != policy.sha:
        raise ApprovalError(f"the gate was changed after {decision.decision_id} was made by it: decide on {of} again")
    absent = [rule["rule"] for rule in said["rules"] if (rule["severity"], rule["outcome"]) == ("hard", "missing")]
    if absent or said["model_id"] is None:
        what = ", ".join(absent) or "which k"
        raise ApprovalError(f"evidence of hard rules must be there, got none for {what} on {of}")
    decided = dt.datetime.fromisoformat(decision.at)
    age = (now or dt.datetime.now(dt.UTC)) - decided
    already = decision_log.approval_of(decision_log.entries(cycle.warehouse), decision.decision_id)
    if already is None and age > dt.timedelta(days=policy.approve_within_days):
        raise ApprovalError(
            f"{decision.decision_id} must be approved within {policy.approve_within_days} days, it was made on"
            f" {decided:%Y-%m-%d}: decide on a new cycle"
        )
    return decision


def waive(
    cycle: Cycle, policy: Path, rule: str, by: str, why: str, until: dt.date, now: dt.datetime | None = None
) -> decision_log.Entry:
    """Let soft rule `rule` pass on the cycles from this one to that of `until`; returns the entry. Given again with the
    same words it changes nothing. Raises ApprovalError if the rule is not a soft one or `by` may not."""
    terms = gate.load_gate(policy)
    _check_person(terms, by, why)
    soft = sorted(known.name for known in terms.rules if known.severity == "soft")
    if rule not in soft:
        raise ApprovalError(f"--rule must be a soft rule of the gate ({', '.join(soft)}), got {rule!r}")
    if until < cycle.date:
        raise ApprovalError(f"--until must not lie before the cycle of {cycle.date}, got {until}")
    payload = {
        "contract": cycle.contract.name,
        "cycle_date": cycle.date.isoformat(),
        "rule": rule,
        "by": by.strip(),
        "why": why.strip(),
        "until": until.isoformat(),
        "gate_sha": terms.sha,
    }
    given = [entry for entry in decision_log.entries(cycle.warehouse) if entry.kind == "waiver"]
    same = next((entry for entry in reversed(given) if entry.payload == payload), None)
    return same or decision_log.append(cycle.warehouse, "waiver", payload, now)


def _check_person(policy: gate.Gate, by: str, why: str) -> None:
    if by.strip() not in policy.approvers:
        known = ", ".join(policy.approvers) or "nobody"
        raise ApprovalError(f"--by must be one of the gate's approvers ({known}), got {by!r}")
    if not why.strip():
        raise ApprovalError(f"--why must say why, got {why!r}")
