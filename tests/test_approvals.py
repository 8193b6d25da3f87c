"""Approvals and waivers: who may give them, for what, how long, and what they change."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_cycle import shown
from test_gate import small_gate

from jobs import approvals, decide, decision_log
from jobs import gate as gates
from jobs.approvals import ApprovalError
from jobs.contract import load
from jobs.cycle import Cycle

CONF = Path(__file__).resolve().parent.parent / "conf"
DAY = dt.date(2017, 12, 18)
AT = dt.datetime(2026, 11, 1, 4, 0, tzinfo=dt.UTC)
WEEK = dt.timedelta(weeks=1)


def cycle_on(root: Path, day: dt.date = DAY) -> Cycle:
    return Cycle(load(CONF / "promo.yml"), day, root, shown()[0])


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "gate.yml"
    path.write_text(yaml.safe_dump(small_gate(approvers=["ann", "bob"], approve_within_days=3)))
    return path


def decided(
    cycle: Cycle,
    policy: Path,
    verdict: gates.Verdict = "HOLD",
    evidence: str = "e1",
    model_id: str | None = "k2",
    **rule: Any,
) -> decision_log.Entry:
    """A decision on the cycle, by the gate of `policy`, in which one soft rule fails."""
    results = (
        gates.RuleResult("auc", "hard", "fct_k", "auc", ">=", 0.8, 0.9, rule.get("hard", "pass"), "ranks"),
        gates.RuleResult("profit", "soft", "fct_k", "profit_lo", ">", 0.0, -1.0, rule.get("soft", "fail"), "pays"),
    )
    sha = gates.load_gate(policy).sha
    found = gates.Evaluation(verdict, "profit: -1, must be > 0", 2, model_id, results, sha, evidence)
    return decision_log.append_decision(cycle.warehouse, "promo", cycle.date, found, at=AT)


def entry_of(cycle: Cycle, decision: decision_log.Entry, promotes: str = "refit") -> decision_log.Entry:
    """An approval as the log has it."""
    said = {"contract": "promo", "cycle_date": decision.payload["cycle_date"], "decision_id": decision.decision_id}
    said |= {
        "promotes": promotes,
        "by": "ann",
        "why": "a trial",
        "gate_sha": "g",
        "evidence_sha": "e",
        "release_id": None,
    }
    return decision_log.append(cycle.warehouse, "approval", said, AT)


def may(cycle: Cycle, policy: Path, by: str = "ann", why: str = "a trial", **more: Any) -> decision_log.Entry:
    return approvals.approvable(cycle, gates.load_gate(policy), by, why, **({"now": AT} | more))


def test_a_hold_can_be_approved_by_those_the_gate_names(tmp_path: Path, policy: Path) -> None:
    cycle = cycle_on(tmp_path)
    decision = decided(cycle, policy)
    assert may(cycle, policy) == decision
    assert may(cycle, policy, by=" bob ", decision_id=decision.decision_id, now=AT + dt.timedelta(days=3)) == decision


@pytest.mark.parametrize(
    ("case", "more", "message"),
    [
        ({}, {"by": "eve"}, r"--by must be one of the gate's approvers \(ann, bob\), got 'eve'"),
        ({}, {"why": "  "}, "--why must say why, got '  '"),
        ({}, {"decision_id": "0123"}, r"--decision must be that in force on promo 2017-12-18, \w{12}, got 0123"),
        (
            {},
            {"now": AT + dt.timedelta(days=3, seconds=1)},
            "must be approved within 3 days, it was made on 2026-11-01",
        ),
        ({"verdict": "NO-GO"}, {}, "only a HOLD can be approved, got NO-GO on promo 2017-12-18: profit: -1"),
        ({"verdict": "GO"}, {}, "only a HOLD can be approved, got GO on promo 2017-12-18"),
        ({"hard": "missing"}, {}, "evidence of hard rules must be there, got none for auc on promo 2017-12-18"),
        ({"model_id": None}, {}, "evidence of hard rules must be there, got none for which k on promo 2017-12-18"),
    ],
)
def test_what_cannot_be_approved(
    tmp_path: Path, policy: Path, case: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    cycle = cycle_on(tmp_path)
    decided(cycle, policy, **case)
    with pytest.raises(ApprovalError, match=message):
        may(cycle, policy, **more)


def test_missing_soft_evidence_can_be_approved(tmp_path: Path, policy: Path) -> None:
    cycle = cycle_on(tmp_path)
    assert decided(cycle, policy, soft="missing") == may(cycle, policy)


def test_without_a_decision_or_with_another_gate_nothing_can_be_approved(tmp_path: Path, policy: Path) -> None:
    cycle = cycle_on(tmp_path)
    with pytest.raises(ApprovalError, match="nothing was decided on promo 2017-12-18: run `fieldmart decide` first"):
        may(cycle, policy)
    decided(cycle, policy)
    policy.write_text(yaml.safe_dump(small_gate(approvers=["ann", "eve"])))
    with pytest.raises(ApprovalError, match=r"the gate was changed after \w{12} was made by it"):
        may(cycle, policy)


def test_a_decision_that_a_newer_one_replaced_cannot_be_approved(tmp_path: Path, policy: Path) -> None:
    cycle = cycle_on(tmp_path)
    first = decided(cycle, policy)
    decided(cycle, policy, verdict="NO-GO", evidence="e2")
    with pytest.raises(ApprovalError, match="only a HOLD can be approved, got NO-GO"):
        may(cycle, policy)
    second = decided(cycle, policy, evidence="e3")
    with pytest.raises(ApprovalError, match=f"must be that in force .*, {second.decision_id}, got {first.decision_id}"):
        may(cycle, policy, decision_id=first.decision_id)


def test_approving_twice_changes_nothing(tmp_path: Path, policy: Path) -> None:
    cycle = cycle_on(tmp_path)
    first = entry_of(cycle, decided(cycle, policy))
    late = AT + dt.timedelta(days=30)  # what was approved in time stays approved
    again = approvals.approve(cycle, None, policy, "bob", "again", now=late)  # ty: ignore[invalid-argument-type]
    assert again == first
    assert len(decision_log.entries(tmp_path)) == 2
    [row] = cycle.dataset("approvals").table().to_pylist()
    assert (row["kind"], row["given_by"], row["promotes"]) == ("approval", "ann", "refit")


def test_an_approved_model_is_champion_from_its_cycle_on(tmp_path: Path, policy: Path) -> None:
    cycle = cycle_on(tmp_path)
    held = decided(cycle, policy)
    assert decision_log.champion(tmp_path, "promo") is None
    entry_of(cycle, held)
    assert decision_log.champion(tmp_path, "promo") == "refit"
    assert decision_log.champion(tmp_path, "promo", as_of=DAY - WEEK) is None
    assert decision_log.incumbent(tmp_path, "promo", DAY) is None  # of the cycles before it
    expected = decision_log.Champion("refit", "k2", 2, DAY, held.decision_id)
    assert decision_log.incumbent(tmp_path, "promo", DAY + WEEK) == expected
    [decision], _ = decision_log.to_facts(decision_log.entries(tmp_path), "promo")
    assert (decision["verdict"], decision["champion_model_id"]) == ("HOLD", "refit")
    alias = {"model_id": "refit", "decision_id": held.decision_id, "cycle_date": "2017-12-18"}
    assert decision_log.write_aliases(tmp_path) == {"champion": {"promo": alias}}


def test_a_later_go_replaces_an_approved_model_and_an_earlier_approval_does_not_come_back(
    tmp_path: Path, policy: Path
) -> None:
    cycle, later = cycle_on(tmp_path), cycle_on(tmp_path, DAY + WEEK)
    held = decided(cycle, policy)
    decided(later, policy, verdict="GO", model_id="newer")
    entry_of(cycle, held)  # in time, but after the next cycle's GO
    assert decision_log.champion(tmp_path, "promo") == "newer"
    assert decision_log.champion(tmp_path, "promo", as_of=DAY) == "refit"
    rows, _ = decision_log.to_facts(decision_log.entries(tmp_path), "promo")
    assert [row["champion_model_id"] for row in rows] == ["refit", "newer"]


# ---- waivers ----


def waived(cycle: Cycle, policy: Path, until: dt.date = DAY + WEEK, **more: Any) -> decision_log.Entry:
    return approvals.waive(cycle, policy, **({"rule": "profit", "by": "ann", "why": "a trial", "until": until} | more))


def test_a_waiver_counts_from_its_cycle_until_its_last_day_whenever_it_was_given(tmp_path: Path, policy: Path) -> None:
    """Old dates are decided again without it, so they come out as they did."""
    waived(cycle_on(tmp_path), policy)
    live = {
        weeks: [waiver.rule for waiver in decide.live_waivers(cycle_on(tmp_path, DAY + weeks * WEEK))]
        for weeks in (-1, 0, 1, 2)
    }
    assert live == {-1: [], 0: ["profit"], 1: ["profit"], 2: []}


def test_a_waiver_given_twice_is_one_entry(tmp_path: Path, policy: Path) -> None:
    cycle = cycle_on(tmp_path)
    assert waived(cycle, policy) == waived(cycle, policy)
    assert waived(cycle, policy, why="another reason").seq == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"rule": "auc"}, r"--rule must be a soft rule of the gate \(profit\), got 'auc'"),
        ({"rule": "guess"}, r"--rule must be a soft rule of the gate \(profit\), got 'guess'"),
        ({"by": "eve"}, r"--by must be one of the gate's approvers \(ann, bob\), got 'eve'"),
        ({"why": ""}, "--why must say why, got ''"),
        ({"until": DAY - dt.timedelta(days=1)}, "--until must not lie before the cycle of 2017-12-18, got 2017-12-17"),
    ],
)
def test_what_cannot_be_waived(tmp_path: Path, policy: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ApprovalError, match=message):
        waived(cycle_on(tmp_path), policy, **more)
    assert decision_log.entries(tmp_path) == []


def test_facts_tell_approvals_and_waivers_of_the_cycles_so_far(tmp_path: Path, policy: Path) -> None:
    cycle = cycle_on(tmp_path)
    entry_of(cycle, decided(cycle, policy))
    waived(cycle, policy)
    waived(cycle_on(tmp_path, DAY + WEEK), policy)
    decide.write_facts(cycle)
    rows = cycle.dataset("approvals").table().to_pylist()
    assert [(row["kind"], row["rule"], row["until"]) for row in rows] == [
        ("approval", None, None),
        ("waiver", "profit", DAY + WEEK),
    ]


# ---- kill or rescope ----


def judged(cycle: Cycle, policy: Path, value: str = "fail", kill_after: int = 3) -> gates.Evaluation:
    terms = gates.load_gate(policy).model_copy(update={"kill_after": kill_after, "value_rule": "profit"})
    rule = gates.RuleResult("profit", "soft", "fct_k", "profit_lo", ">", 0.0, -1.0, value, "pays")  # ty: ignore[invalid-argument-type]
    found = gates.Evaluation("HOLD", "held", 2, "k2", (rule,), terms.sha, "e9", "look")
    return decide.killed(found, terms, decision_log.entries(cycle.warehouse), "promo", cycle.date)


def test_too_many_cycles_without_promotion_and_value_end_in_kill_or_rescope(tmp_path: Path, policy: Path) -> None:
    cycles = [cycle_on(tmp_path, DAY + weeks * WEEK) for weeks in range(3)]
    decided(cycles[0], policy)
    assert judged(cycles[1], policy).next_action == "look"
    decided(cycles[1], policy, evidence="before")
    decided(cycles[1], policy)  # decided twice: one cycle
    found = judged(cycles[2], policy)
    assert found.next_action == "rescope"
    assert found.reason == "held; kill or rescope: 3 cycles or more without promotion and without profit"
    assert judged(cycles[2], policy, value="pass").reason == "held"
    assert judged(cycles[2], policy, kill_after=4).reason == "held"


@pytest.mark.parametrize("how", ["GO", "approved", "value"])
def test_a_promotion_or_value_starts_the_count_anew(tmp_path: Path, policy: Path, how: str) -> None:
    cycles = [cycle_on(tmp_path, DAY + weeks * WEEK) for weeks in range(3)]
    decided(cycles[0], policy)
    last = decided(cycles[1], policy, "GO" if how == "GO" else "HOLD", soft="pass" if how == "value" else "fail")
    if how == "approved":
        entry_of(cycles[1], last)
    assert judged(cycles[2], policy).next_action == "look"


# ---- on a whole night ----


@pytest.mark.slow
def test_an_approved_night_is_refitted_and_scored(own_night, spark) -> None:
    """The night once more by a gate with a soft rule that nothing meets: HOLD; then somebody approves it."""
    cycle, root = own_night.cycle, own_night.cycle.warehouse
    terms = yaml.safe_load((own_night.contract.parent / "gate.yml").read_text())
    wish = terms["rules"][1] | {"name": "a_wish", "severity": "soft", "threshold": 2.0}
    policy = root / "gate.yml"
    policy.write_text(yaml.safe_dump(terms | {"rules": [*terms["rules"], wish]}))
    cycle.remember({}, run={"registered_gate_sha": gates.load_gate(policy).sha})
    decision_log.path_of(root).unlink()
    decide.build_evidence(cycle, policy)
    assert cycle.state()["run"]["evidence_variables"] == {"margin_relative_cost": 0.1}
    held = decide.run(cycle, spark, policy)
    assert (held.payload["verdict"], decision_log.champion(root, "small")) == ("HOLD", None)
    entry = approvals.approve(cycle, spark, policy, "ann", "a trial")
    assert decision_log.champion(root, "small") == entry.payload["promotes"]
    assert (root / "models" / entry.payload["promotes"] / "card.json").is_file()
    assert decide.run(cycle, spark, policy) == held  # decided again, it stays approved
    waived_entry = approvals.waive(cycle, policy, "a_wish", "ann", "a trial", cycle.date)
    went = decide.run(cycle, spark, policy)
    assert went.payload["verdict"] == "GO"
    assert f"waived by ann until {waived_entry.payload['until']}" in went.payload["reason"]
