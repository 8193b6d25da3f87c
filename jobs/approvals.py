"""What people add to the gate: an approval promotes a model that was held, a waiver lets a soft rule pass for a while.

Both are entries of the decision log, given by one of the gate's `approvers`. Neither overrules a hard rule or stands in
for the evidence of one. Evidence that a soft rule lacks can be done without by approving, not by waiving.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from pyspark.sql import SparkSession

from jobs import champions, decide, decision_log, gate
from jobs.cycle import Cycle

MOST_DAYS = 92  # a waiver, from its first cycle on: after a quarter somebody has to say it again


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
    """Promote the model of the cycle's last decision, a HOLD, as a GO would have; returns the entry. So can a GO be
    that the guard demoted.

    `decision_id`: the decision that was looked at, if it has to be that one. Given again it changes nothing. Raises
    ApprovalError if there is nothing to approve, or nobody may.
    """
    decision = approvable(cycle, gate.load_gate(policy), by, why, decision_id, now)
    approval = champions.promotion_of(decision_log.entries(cycle.warehouse), decision)
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
            "card_sha": decide.card_sha(cycle, promotes),
        }
        approval = decision_log.append(cycle.warehouse, "approval", payload, now)
    champions.write_aliases(cycle.warehouse)
    decide.write_facts(cycle)
    return approval


def approvable(
    cycle: Cycle, policy: gate.Gate, by: str, why: str, decision_id: str | None = None, now: dt.datetime | None = None
) -> decision_log.Entry:
    """The cycle's decision, if `by` may approve it at `now`; else ApprovalError."""
    of = f"{cycle.contract.name} {cycle.date}"
    _check_person(policy, by, why)
    decision = champions.last_decision(cycle.warehouse, cycle.contract.name, cycle.date)
    if decision is None:
        raise ApprovalError(f"nothing was decided on {of}: run `fieldmart decide` first")
    said = decision.payload
    if decision_id not in (None, decision.decision_id):
        raise ApprovalError(f"--decision must be that in force on {of}, {decision.decision_id}, got {decision_id}")
    log = decision_log.entries(cycle.warehouse)
    is_held = said["verdict"] == "HOLD" or (said["verdict"] == "GO" and champions.promotion_of(log, decision) is None)
    if not is_held:
        raise ApprovalError(f"only a HOLD can be approved, got {said['verdict']} on {of}: {said['reason']}")
    if said["gate_sha"] != policy.sha:
        raise ApprovalError(f"the gate was changed after {decision.decision_id} was made by it: decide on {of} again")
    later = champions.promoted(log, cycle.contract.name)
    if later is not None and later.cycle_date > cycle.date:
        raise ApprovalError(
            f"{of} must be the latest cycle that promotes a model, got {later.promotes} as champion from the cycle of"
            f" {later.cycle_date}: {decision.decision_id} is superseded"
        )
    absent = [rule["rule"] for rule in said["rules"] if (rule["severity"], rule["outcome"]) == ("hard", "missing")]
    if absent or said["model_id"] is None:
        what = ", ".join(absent) or "which k"
        raise ApprovalError(f"evidence of hard rules must be there, got none for {what} on {of}")
    if champions.promotion_of(log, decision) is None:
        _check_fresh(cycle, policy, decision, now or dt.datetime.now(dt.UTC))
    return decision


def _check_fresh(cycle: Cycle, policy: gate.Gate, decision: decision_log.Entry, now: dt.datetime) -> None:
    """A refit now must be of what was decided on, and that not long ago."""
    decided, of = dt.datetime.fromisoformat(decision.at), f"{cycle.contract.name} {cycle.date}"
    if now - decided > dt.timedelta(days=policy.approve_within_days):
        raise ApprovalError(
            f"{decision.decision_id} must be approved within {policy.approve_within_days} days, it was made on"
            f" {decided:%Y-%m-%d}: decide on a new cycle"
        )
    then, today = decision.payload.get("refit_from"), decide.refit_from(cycle)
    if then is None:
        raise ApprovalError(f"{decision.decision_id} must say which data it stands on, got none: decide on {of} again")
    changed = ", ".join(name for name in today if then.get(name) != today[name])
    if changed:
        raise ApprovalError(
            f"{of} was evaluated again since {decision.decision_id} (other {changed}): run `fieldmart warehouse` and"
            " `fieldmart decide`"
        )


def waive(
    cycle: Cycle, policy: Path, rule: str, by: str, why: str, until: dt.date, now: dt.datetime | None = None
) -> decision_log.Entry:
    """Let soft rule `rule`, as it is now, pass on the cycles from this one to that of `until`; returns the entry.

    It replaces an earlier waiver of the rule; an `until` before this cycle only ends that. Given again with the same
    words it changes nothing. Raises ApprovalError if the rule is not a soft one, `by` may not, `until` is more than
    MOST_DAYS away, or there is nothing to end.
    """
    terms = gate.load_gate(policy)
    _check_person(terms, by, why)
    soft = {known.name: known for known in terms.rules if known.severity == "soft"}
    if rule not in soft:
        raise ApprovalError(f"--rule must be a soft rule of the gate ({', '.join(sorted(soft))}), got {rule!r}")
    last = cycle.date + dt.timedelta(days=MOST_DAYS)
    if until > last:
        raise ApprovalError(
            f"--until must lie within {MOST_DAYS} days of the cycle of {cycle.date}, got {until} > {last}"
        )
    payload = {
        "contract": cycle.contract.name,
        "cycle_date": cycle.date.isoformat(),
        "rule": rule,
        "by": by.strip(),
        "why": why.strip(),
        "until": until.isoformat(),
        "gate_sha": terms.sha,
        "rule_sha": soft[rule].sha,
    }
    before = decide.last_waivers(cycle).get(rule)
    if before is not None and before.payload == payload:
        return before
    if until < cycle.date and (before is None or before.payload["until"] < cycle.date.isoformat()):
        raise ApprovalError(f"--until must not lie before the cycle of {cycle.date} where no waiver ends, got {until}")
    return decision_log.append(cycle.warehouse, "waiver", payload, now)


def _check_person(policy: gate.Gate, by: str, why: str) -> None:
    if by.strip() not in policy.approvers:
        known = ", ".join(policy.approvers) or "nobody"
        raise ApprovalError(f"--by must be one of the gate's approvers ({known}), got {by!r}")
    if not why.strip():
        raise ApprovalError(f"--why must say why, got {why!r}")
