"""Approvals and waivers: who may give them, for what, how long, and what they change."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_cycle import shown
from test_gate import small_gate

from jobs import approvals, champions, decide, decision_log, log_facts
from jobs import gate as gates
from jobs.approvals import ApprovalError
from jobs.contract import load
from jobs.cycle import Cycle
from jobs.lake import LakeError, write_json

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
    stands_on = rule.get("refit_from", decide.refit_from(cycle))
    return decision_log.append_decision(cycle.warehouse, "promo", cycle.date, found, at=AT, refit_from=stands_on)


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


def test_a_cycle_that_was_evaluated_again_cannot_be_approved(tmp_path: Path, policy: Path) -> None:
    """The refit would be of other rows or calibrators than those that were decided on."""
    cycle = cycle_on(tmp_path)
    cycle.remember({"rows": "r1", "calibrators": "c1", "scores": "s1"})
    decision = decided(cycle, policy)
    cycle.remember({"scores": "s2"})  # nothing that a refit needs
    assert may(cycle, policy) == decision
    cycle.remember({"rows": "r2", "calibrators": "c2"})
    again = rf"promo 2017-12-18 was evaluated again since {decision.decision_id} \(other rows, calibrators\): run"
    with pytest.raises(ApprovalError, match=again):
        may(cycle, policy)
    entry_of(cycle, decision)
    assert may(cycle, policy) == decision  # what was approved stays so


def test_a_decision_that_does_not_say_what_it_stands_on_cannot_be_approved(tmp_path: Path, policy: Path) -> None:
    """As in logs from before that was written."""
    cycle = cycle_on(tmp_path)
    decided(cycle, policy, refit_from=None)
    with pytest.raises(ApprovalError, match=r"\w{12} must say which data it stands on, got none: decide on promo"):
        may(cycle, policy)


def test_evidence_marts_of_an_earlier_evaluation_are_not_decided_on(tmp_path: Path, policy: Path) -> None:
    cycle = cycle_on(tmp_path)
    (tmp_path / "releases" / ".building-r").mkdir(parents=True)
    (tmp_path / "releases" / ".building-r" / "mart.duckdb").touch()
    cycle.remember({"calibrators": "c1"})
    cycle.remember({"calibrators": "c2"}, run={"release_id": "r", "refit_from": decide.refit_from(cycle)})
    with pytest.raises(LakeError, match="promo 2017-12-18 must stand on what was evaluated last, got others: run"):
        decide.run(cycle, None, policy)  # ty: ignore[invalid-argument-type]


def test_a_hold_before_a_later_champion_cannot_be_approved(tmp_path: Path, policy: Path) -> None:
    cycle, later = cycle_on(tmp_path), cycle_on(tmp_path, DAY + WEEK)
    held = decided(cycle, policy)
    decided(later, policy)
    assert may(cycle, policy) == held  # the later cycle promoted nothing
    decided(later, policy, verdict="GO", evidence="e2", model_id="newer")
    superseded = rf"got newer as champion from the cycle of 2017-12-25: {held.decision_id} is superseded"
    with pytest.raises(ApprovalError, match=superseded):
        may(cycle, policy)
    decided(later, policy, verdict="NO-GO", evidence="e3")
    assert may(cycle, policy) == held


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
    assert champions.champion(tmp_path, "promo") is None
    entry_of(cycle, held)
    assert champions.champion(tmp_path, "promo") == "refit"
    assert champions.champion(tmp_path, "promo", as_of=DAY - WEEK) is None
    assert champions.incumbent(tmp_path, "promo", DAY) is None  # of the cycles before it
    expected = champions.Champion("refit", "k2", 2, DAY, held.decision_id)
    assert champions.incumbent(tmp_path, "promo", DAY + WEEK) == expected
    [decision], _ = log_facts.of_decisions(decision_log.entries(tmp_path), "promo")
    assert (decision["verdict"], decision["champion_model_id"]) == ("HOLD", "refit")
    alias = {"model_id": "refit", "decision_id": held.decision_id, "cycle_date": "2017-12-18"}
    assert champions.write_aliases(tmp_path)["champion"] == {"promo": alias}


def test_a_later_go_replaces_an_approved_model_and_an_earlier_approval_does_not_come_back(
    tmp_path: Path, policy: Path
) -> None:
    cycle, later = cycle_on(tmp_path), cycle_on(tmp_path, DAY + WEEK)
    held = decided(cycle, policy)
    decided(later, policy, verdict="GO", model_id="newer")
    entry_of(cycle, held)  # as two commands at once might write it: after the next cycle's GO
    assert champions.champion(tmp_path, "promo") == "newer"
    assert champions.champion(tmp_path, "promo", as_of=DAY) == "refit"


def test_an_approval_shows_in_history_from_when_it_was_given(tmp_path: Path, policy: Path) -> None:
    """The next cycle had been decided on: until then the prior served, from then on the approved model."""
    cycle, later = cycle_on(tmp_path), cycle_on(tmp_path, DAY + WEEK)
    held = decided(cycle, policy)
    decided(later, policy)
    decided(cycle_on(tmp_path, DAY - WEEK), policy)  # an old date once more, which ends nothing
    entry_of(cycle, held)
    decided(cycle_on(tmp_path, DAY + 2 * WEEK), policy, evidence="e3")

    def champions(as_of: dt.date | None = None) -> list[str | None]:
        rows, _ = log_facts.of_decisions(decision_log.entries(tmp_path), "promo", as_of)
        return [row["champion_model_id"] for row in rows]

    assert champions() == [None, "refit", None, "refit"]
    assert champions(DAY) == ["refit", None]  # scored again for its date, the cycle is served by what was approved


def test_an_approval_of_a_decision_that_was_replaced_promotes_nothing(tmp_path: Path, policy: Path) -> None:
    cycle = cycle_on(tmp_path)
    entry_of(cycle, decided(cycle, policy))
    assert champions.champion(tmp_path, "promo") == "refit"
    decided(cycle, policy, evidence="e2")
    assert champions.champion(tmp_path, "promo") is None
    rows, _ = log_facts.of_decisions(decision_log.entries(tmp_path), "promo")
    assert [row["champion_model_id"] for row in rows] == ["refit", None]


# ---- waivers ----


def waived(cycle: Cycle, policy: Path, until: dt.date = DAY + WEEK, **more: Any) -> decision_log.Entry:
    return approvals.waive(cycle, policy, **({"rule": "profit", "by": "ann", "why": "a trial", "until": until} | more))


def test_a_waiver_counts_from_its_cycle_until_its_last_day_whenever_it_was_given(tmp_path: Path, policy: Path) -> None:
    """Old dates are decided again without it, so they come out as they did."""
    waived(cycle_on(tmp_path), policy)
    assert live_weeks(tmp_path, policy) == [0, 1]


def live_weeks(root: Path, policy: Path) -> list[int]:
    """The weeks from DAY on whose cycles have `profit` waived."""
    terms = gates.load_gate(policy)
    cycles = {weeks: cycle_on(root, DAY + weeks * WEEK) for weeks in range(-1, 6)}
    return [
        weeks for weeks, cycle in cycles.items() if [w.rule for w in decide.live_waivers(cycle, terms)] == ["profit"]
    ]


def test_a_later_waiver_replaces_an_earlier_one_and_may_end_it(tmp_path: Path, policy: Path) -> None:
    first = waived(cycle_on(tmp_path), policy, until=DAY + 4 * WEEK)
    assert live_weeks(tmp_path, policy) == [0, 1, 2, 3, 4]
    waived(cycle_on(tmp_path, DAY + WEEK), policy, until=DAY + 2 * WEEK)  # shorter
    assert live_weeks(tmp_path, policy) == [0, 1, 2]
    assert waived(cycle_on(tmp_path), policy, until=DAY + 4 * WEEK) == first
    assert live_weeks(tmp_path, policy) == [0, 1, 2]  # later cycles have a waiver of their own
    again = waived(cycle_on(tmp_path, DAY + WEEK), policy, until=DAY + 4 * WEEK)  # longer
    assert waived(cycle_on(tmp_path, DAY + WEEK), policy, until=DAY + 2 * WEEK).seq == again.seq + 1  # and back
    waived(cycle_on(tmp_path, DAY + WEEK), policy, until=DAY + 4 * WEEK)
    assert live_weeks(tmp_path, policy) == [0, 1, 2, 3, 4]
    third = cycle_on(tmp_path, DAY + 3 * WEEK)
    ended = waived(third, policy, until=DAY)
    assert ended.text == "profit no more from 2018-01-08 on by ann: a trial"
    assert live_weeks(tmp_path, policy) == [0, 1, 2]  # what was decided before stays as it was
    assert waived(third, policy, until=DAY) == ended
    with pytest.raises(ApprovalError, match="--until must not lie before the cycle of 2018-01-08 where no waiver ends"):
        waived(third, policy, until=DAY, why="twice")


@pytest.mark.parametrize("change", [{"threshold": -5.0}, {"why": "another reason"}, {"severity": "hard"}])
def test_a_rule_that_was_changed_is_not_waived(tmp_path: Path, policy: Path, change: dict[str, Any]) -> None:
    waived(cycle_on(tmp_path), policy)
    terms = yaml.safe_load(policy.read_text())
    rules = {rule["name"]: rule for rule in terms["rules"]}
    rules["auc"]["threshold"] = 0.75
    policy.write_text(yaml.safe_dump(terms))
    assert live_weeks(tmp_path, policy) == [0, 1]  # another rule was changed
    rules["profit"].update(change)
    policy.write_text(yaml.safe_dump(terms))
    assert live_weeks(tmp_path, policy) == []


def test_a_waiver_from_before_its_rule_was_logged_does_not_count(tmp_path: Path, policy: Path) -> None:
    said = waived(cycle_on(tmp_path), policy).payload
    old = {name: value for name, value in said.items() if name != "rule_sha"}
    decision_log.append(tmp_path, "waiver", old)
    assert live_weeks(tmp_path, policy) == []


def test_a_waiver_lasts_a_quarter_at_most(tmp_path: Path, policy: Path) -> None:
    """92 days after 2017-12-18 are 13 of December, 31, 28 and 20 of March."""
    waived(cycle_on(tmp_path), policy, until=dt.date(2018, 3, 20))
    message = "--until must lie within 92 days of the cycle of 2017-12-18, got 2018-03-21 > 2018-03-20"
    with pytest.raises(ApprovalError, match=message):
        waived(cycle_on(tmp_path), policy, until=dt.date(2018, 3, 21))


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
        ({"until": DAY - dt.timedelta(days=1)}, "before the cycle of 2017-12-18 where no waiver ends, got 2017-12-17"),
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


def never_decided(cycle: Cycle) -> None:
    """Take back all that a decision and its release left."""
    root = cycle.warehouse
    shutil.rmtree(root / "releases")
    for path in (decision_log.path_of(root), champions.aliases_path(root), root / "current.json", root / "current"):
        path.unlink()
    path = root / "cycles" / cycle.contract.name / f"{cycle.date}.json"
    state = json.loads(path.read_text())
    kept = {name: value for name, value in state["run"].items() if name not in ("decision_id", "published_id")}
    write_json(path, state | {"run": kept})


@pytest.mark.slow
def test_an_approved_night_is_refitted_and_scored(own_night, spark) -> None:
    """The night once more by a gate with a soft rule that nothing meets: HOLD; then somebody approves it."""
    cycle, root = own_night.cycle, own_night.cycle.warehouse
    terms = yaml.safe_load((own_night.contract.parent / "gate.yml").read_text())
    wish = terms["rules"][1] | {"name": "a_wish", "severity": "soft", "threshold": 2.0}
    policy = root / "gate.yml"
    policy.write_text(yaml.safe_dump(terms | {"rules": [*terms["rules"], wish]}))
    cycle.remember({}, run={"registered_gate_sha": gates.load_gate(policy).sha})
    never_decided(cycle)
    decide.build_evidence(cycle, policy)
    assert cycle.state()["run"]["evidence_variables"] == {"margin_relative_cost": 0.1}
    held = decide.run(cycle, spark, policy)
    assert (held.payload["verdict"], champions.champion(root, "small")) == ("HOLD", None)
    entry = approvals.approve(cycle, spark, policy, "ann", "a trial")
    assert champions.champion(root, "small") == entry.payload["promotes"]
    assert (root / "models" / entry.payload["promotes"] / "card.json").is_file()
    assert decide.run(cycle, spark, policy) == held  # decided again, it stays approved
    waived_entry = approvals.waive(cycle, policy, "a_wish", "ann", "a trial", cycle.date)
    went = decide.run(cycle, spark, policy)
    assert went.payload["verdict"] == "GO"
    assert f"waived by ann until {waived_entry.payload['until']}" in went.payload["reason"]
