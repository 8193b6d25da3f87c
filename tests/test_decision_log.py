"""The decision log: what is appended stays, in order, and nothing can be changed unseen."""

from __future__ import annotations

import datetime as dt
import getpass
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from jobs import champions, decision_log, facts, log_facts
from jobs.gate import Evaluation, RuleResult, Verdict

NIGHT = dt.date(2017, 12, 18)
AT = dt.datetime(2017, 12, 18, 4, 30, tzinfo=dt.UTC)


def evaluation(
    verdict: Verdict = "GO", model_id: str | None = "k1", evidence: str = "e1", gate: str = "g1"
) -> Evaluation:
    rules = (
        RuleResult("auc", "hard", "fct_k", "auc", ">=", 0.8, 0.9, "pass", "ranks"),
        RuleResult("size_budget", "hard", "fct_k", "artifact_mib", "<=", 64.0, None, "missing", "fits"),
    )
    return Evaluation(verdict, f"{verdict} it is", 1, model_id, rules, gate, evidence)


def decide(warehouse: Path, day: dt.date = NIGHT, contract: str = "promo", **what: Any) -> decision_log.Entry:
    return decision_log.append_decision(warehouse, contract, day, evaluation(**what), at=AT)


def lines(warehouse: Path) -> list[bytes]:
    return decision_log.path_of(warehouse).read_bytes().splitlines(keepends=True)


def overwrite(warehouse: Path, content: list[bytes]) -> None:
    decision_log.path_of(warehouse).write_bytes(b"".join(content))


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A warehouse whose log has three publish entries."""
    for name in ("a", "b", "c"):
        decision_log.append(tmp_path, "publish", {"release_id": name}, at=AT)
    return tmp_path


def test_an_empty_log_is_intact(tmp_path: Path) -> None:
    assert decision_log.entries(tmp_path) == []
    assert decision_log.verify(tmp_path) == decision_log.Report(0, "0" * 64, 0)


def test_the_chain_can_be_recomputed_without_this_module(three: Path) -> None:
    previous = "0" * 64
    for number, line in enumerate(lines(three), start=1):
        entry = json.loads(line)
        claimed = entry.pop("entry_hash")
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
        assert claimed == hashlib.sha256(text.encode()).hexdigest()
        assert (entry["seq"], entry["prev_hash"]) == (number, previous)
        assert entry["at"] == "2017-12-18T04:30:00.000000+00:00"
        previous = claimed
    assert decision_log.verify(three) == decision_log.Report(3, previous, 0)


@pytest.mark.parametrize("line", [1, 2, 3])
def test_a_changed_value_is_found_in_its_line(three: Path, line: int) -> None:
    changed = lines(three)
    changed[line - 1] = changed[line - 1].replace(b'"release_id":"', b'"release_id":"x')
    overwrite(three, changed)
    with pytest.raises(decision_log.LogError, match=rf"decisions.jsonl, line {line}: was changed after writing"):
        decision_log.verify(three)


def test_a_changed_entry_with_a_fitting_hash_breaks_the_next_line(three: Path) -> None:
    changed = lines(three)
    entry = json.loads(changed[1])
    del entry["entry_hash"]
    entry["payload"] = {"release_id": "x"}
    entry["entry_hash"] = hashlib.sha256(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    changed[1] = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    overwrite(three, changed)
    with pytest.raises(decision_log.LogError, match="line 3: does not follow the line before"):
        decision_log.verify(three)


def test_a_removed_line_is_found(three: Path) -> None:
    first, _, third = lines(three)
    overwrite(three, [first, third])
    with pytest.raises(decision_log.LogError, match="line 2: does not follow the line before"):
        decision_log.entries(three)


def test_another_layout_of_the_same_entry_is_found(three: Path) -> None:
    """A key given twice would hide a value from a person but not from the parser."""
    changed = lines(three)
    changed[1] = changed[1].replace(b'{"at"', b'{"kind":"decision","at"')
    overwrite(three, changed)
    with pytest.raises(decision_log.LogError, match="line 2: was changed after writing"):
        decision_log.entries(three)


def test_a_torn_line_in_the_middle_is_an_error(three: Path) -> None:
    first, second, third = lines(three)
    overwrite(three, [first, second[:40], b"\n", third])
    with pytest.raises(decision_log.LogError, match="line 2: is not an entry of the log"):
        decision_log.append(three, "publish", {})
    assert len(lines(three)) == 3  # nothing was written behind the damage


def test_every_torn_tail_is_reported_ignored_and_replaced(three: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second, third = lines(three)
    for cut in range(1, len(third)):  # wherever the crash fell; even only the newline may be missing
        overwrite(three, [first, second, third[:cut]])
        assert [entry.seq for entry in decision_log.entries(three)] == [1, 2]
        assert decision_log.verify(three).torn_bytes == cut
    again = decision_log.append(three, "publish", {"release_id": "c"}, at=AT)
    assert lines(three) == [first, second, third]
    assert again.seq == 3
    assert f"dropped {len(third) - 1} bytes of an unfinished entry after line 2" in caplog.text


def test_a_write_that_fails_halfway_leaves_the_chain(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        decision_log.append(three, "rollback", {"release_id": "b"})
    monkeypatch.undo()
    assert decision_log.verify(three).entries in (3, 4)
    decision_log.append(three, "rollback", {"release_id": "b"})
    decision_log.verify(three)


APPEND_MANY = """
import sys
from dataclasses import asdict, replace
from pathlib import Path
from jobs import decision_log
for number in range(25):
    decision_log.append(Path(sys.argv[1]), "publish", {"release_id": f"{sys.argv[2]}{number}"})
"""


def test_writers_in_two_processes_keep_one_chain(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", APPEND_MANY, str(tmp_path), "a"])
    while not decision_log.entries(tmp_path):  # until the other one is under way
        assert other.poll() is None
    for number in range(25):
        decision_log.append(tmp_path, "publish", {"release_id": f"b{number}"})
    assert other.wait() == 0
    found = [entry.payload["release_id"] for entry in decision_log.entries(tmp_path)]
    assert sorted(found) == sorted(f"{name}{number}" for name in "ab" for number in range(25))
    assert [name for name in found if name[0] == "a"] == [f"a{number}" for number in range(25)]


@pytest.mark.parametrize("payload", [{"value": float("nan")}, {"value": {1, 2}}])
def test_a_payload_that_is_not_json_is_refused(tmp_path: Path, payload: dict) -> None:
    with pytest.raises(ValueError, match="payload must be JSON with finite numbers"):
        decision_log.append(tmp_path, "publish", payload)
    assert decision_log.entries(tmp_path) == []


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    known = "decision, publish, rollback, opening, sweep, approval, waiver, guard, loss"
    with pytest.raises(ValueError, match=f"kind must be one of {known}, got 'guess'"):
        decision_log.append(tmp_path, "guess", {})  # ty: ignore[invalid-argument-type]


def test_a_rerun_writes_nothing(tmp_path: Path) -> None:
    first = decide(tmp_path)
    before = lines(tmp_path)
    assert decide(tmp_path) == first
    assert lines(tmp_path) == before


@pytest.mark.parametrize(
    "other",
    [{"evidence": "e2"}, {"gate": "g2"}, {"contract": "coupon"}, {"day": dt.date(2017, 12, 25)}],
    ids=["evidence", "gate", "contract", "day"],
)
def test_a_decision_on_anything_else_is_a_new_one(tmp_path: Path, other: dict) -> None:
    first = decide(tmp_path)
    assert decide(tmp_path, **other).seq == first.seq + 1


def test_coming_back_to_earlier_evidence_is_a_new_decision(tmp_path: Path) -> None:
    """Otherwise the log would end in a decision that is not the one in force."""
    for evidence in ("e1", "e2", "e1"):
        decide(tmp_path, evidence=evidence, model_id=f"model-{evidence}")
    assert len(decision_log.entries(tmp_path)) == 3
    assert champions.champion(tmp_path, "promo") == "model-e1"


def test_hold_and_no_go_keep_the_champion(tmp_path: Path) -> None:
    assert champions.champion(tmp_path, "promo") is None
    nights = [("HOLD", None), ("GO", "m2"), ("HOLD", "m2"), ("NO-GO", "m2"), ("GO", "m5")]
    for number, (verdict, expected) in enumerate(nights, start=1):
        day = NIGHT + dt.timedelta(days=number)
        decide(tmp_path, day=day, verdict=verdict, model_id=f"m{number}", evidence=f"e{number}")
        assert champions.champion(tmp_path, "promo") == expected
    assert champions.champion(tmp_path, "coupon") is None


def test_the_refit_becomes_champion_not_the_evaluated_model(tmp_path: Path) -> None:
    decision_log.append_decision(tmp_path, "promo", NIGHT, evaluation(model_id="compared"), promotes="refit")
    assert champions.champion(tmp_path, "promo") == "refit"


def test_running_an_old_date_again_neither_demotes_nor_looks_ahead(tmp_path: Path) -> None:
    earlier = NIGHT - dt.timedelta(days=7)
    decide(tmp_path, model_id="new", evidence="e1")
    assert champions.champion(tmp_path, "promo", as_of=earlier) is None
    decide(tmp_path, day=earlier, model_id="old", evidence="e2")
    assert champions.champion(tmp_path, "promo") == "new"
    assert champions.champion(tmp_path, "promo", as_of=earlier) == "old"


def test_only_the_decision_in_force_on_a_cycle_promotes(tmp_path: Path) -> None:
    """Decided again on other evidence, NO-GO takes back what the first GO promoted; the champion before it is back."""
    before = NIGHT - dt.timedelta(days=7)
    old = decide(tmp_path, day=before, model_id="old", evidence="e0")
    decide(tmp_path, model_id="m1", evidence="e1")
    assert champions.champion(tmp_path, "promo") == "m1"
    decide(tmp_path, model_id="m2", evidence="e2", verdict="NO-GO")
    assert champions.champion(tmp_path, "promo") == champions.champion(tmp_path, "promo", as_of=NIGHT) == "old"
    found = champions.incumbent(tmp_path, "promo", NIGHT + dt.timedelta(days=7))
    assert found
    assert found.decision_id == old.decision_id
    assert champions.write_aliases(tmp_path)["champion"]["promo"]["model_id"] == "old"
    rows, _ = log_facts.of_decisions(decision_log.entries(tmp_path), "promo")
    assert [row["champion_model_id"] for row in rows] == ["old", "m1", "old"]  # each as it was then


def test_aliases_are_rebuilt_from_the_log_alone(tmp_path: Path) -> None:
    go = decide(tmp_path, model_id="m1")
    refused = decide(tmp_path, contract="coupon", verdict="NO-GO", model_id="m2")
    promo = {"model_id": "m1", "decision_id": go.entry_hash[:12], "cycle_date": "2017-12-18"}
    coupon = {"model_id": "m2", "decision_id": refused.entry_hash[:12], "cycle_date": "2017-12-18"}
    expected = {"champion": {"promo": promo}, "challenger": {"promo": promo, "coupon": coupon}}
    assert champions.write_aliases(tmp_path) == expected
    path = tmp_path / "models" / "aliases.json"
    path.unlink()
    champions.write_aliases(tmp_path)
    assert json.loads(path.read_text()) == expected


def test_facts_have_the_declared_columns_and_the_champion_after_each_decision(tmp_path: Path) -> None:
    decide(tmp_path, verdict="HOLD", evidence="e1")
    decision_log.append(tmp_path, "publish", {"release_id": "a"})
    go = decide(tmp_path, evidence="e2", model_id="m2")
    decide(tmp_path, contract="coupon", evidence="e3")
    last = decide(tmp_path, day=NIGHT + dt.timedelta(days=7), verdict="NO-GO", evidence="e4", model_id="m4")
    decisions, rules = log_facts.of_decisions(decision_log.entries(tmp_path), contract="promo")

    assert facts.table("decisions", decisions).num_rows == 3
    assert [row["champion_model_id"] for row in decisions] == [None, "m2", "m2"]
    assert [row["candidate_model_id"] for row in decisions] == ["k1", "m2", "m4"]
    assert [row["seq"] for row in decisions] == [1, 3, 5]
    assert decisions[1]["decision_id"] == go.entry_hash[:12]
    assert decisions[1]["decided_at"] == dt.datetime(2017, 12, 18, 4, 30)
    assert decisions[1]["decided_by"] == getpass.getuser()

    table = facts.table("decision_rules", rules)
    assert table.num_rows == 6
    assert table.slice(4).to_pylist()[1] == {
        "decision_id": last.entry_hash[:12],
        "seq": 2,
        "rule": "size_budget",
        "severity": "hard",
        "mart": "fct_k",
        "metric": "artifact_mib",
        "operator": "<=",
        "threshold": 64.0,
        "value": None,
        "outcome": "missing",
        "why": "fits",
        "note": None,
        "periods_needed": None,
        "days_needed": None,
    }
    of_that_night = log_facts.of_decisions(decision_log.entries(tmp_path), contract="promo", as_of=NIGHT)[0]
    assert [row["seq"] for row in of_that_night] == [1, 3]


TEST = (dt.date(2017, 10, 30), dt.date(2017, 12, 25))


def opened(warehouse: Path, day: dt.date = NIGHT, test: tuple[dt.date, dt.date] = TEST) -> decision_log.Entry:
    about = {"contract": "promo", "cycle_date": day.isoformat(), "models": 5}
    return decision_log.append_opening(warehouse, about, *test, at=AT)


def test_openings_of_the_same_test_periods_are_counted(tmp_path: Path) -> None:
    other = (TEST[0], TEST[0])
    found = [opened(tmp_path), opened(tmp_path, test=other), opened(tmp_path, day=NIGHT + dt.timedelta(7))]
    assert [entry.payload["nth"] for entry in found] == [1, 1, 2]
    assert found[2].text == "test 2017-10-30 to 2017-12-25, 5 models, opening 2"
    rows = log_facts.of_openings(decision_log.entries(tmp_path), "promo", NIGHT)
    assert [row["nth"] for row in rows] == [1, 1]  # the later cycle's is not yet there on this one
    assert log_facts.of_openings(decision_log.entries(tmp_path), "shop", NIGHT) == []
    assert facts.table("test_openings", rows).num_rows == 2
    assert decision_log.verify(tmp_path).entries == 3


def test_openings_and_sweeps_are_no_decisions(tmp_path: Path) -> None:
    opened(tmp_path)
    decision_log.append_sweep(tmp_path, sweep(2))
    assert champions.champion(tmp_path, "promo") is None
    decide(tmp_path)
    assert len(log_facts.of_decisions(decision_log.entries(tmp_path))[0]) == 1


def sweep(k: int, day: str = "2017-12-04", terms: str = "same") -> dict[str, Any]:
    return {"contract": "promo", "cycle_date": day, "terms_sha": terms, "k": k, "ks": [1, 2, 4], "n_seeds": 5}


def test_the_last_sweep_on_the_same_terms_counts(tmp_path: Path) -> None:
    first = decision_log.append_sweep(tmp_path, sweep(2))
    assert decision_log.append_sweep(tmp_path, sweep(2)) == first  # said already
    decision_log.append_sweep(tmp_path, sweep(4, "2017-12-11"))
    decision_log.append_sweep(tmp_path, sweep(1, "2017-12-18", "other fields"))
    assert first.text == "k = 2 of [1, 2, 4], 5 seeds"

    def k(day: dt.date, terms: str = "same", contract: str = "promo") -> int | None:
        found = decision_log.last_sweep(tmp_path, contract, day, terms)
        return found and found["k"]

    assert [k(NIGHT), k(dt.date(2017, 12, 5)), k(dt.date(2017, 12, 3))] == [4, 2, None]
    assert [k(NIGHT, "other fields"), k(NIGHT, "third"), k(NIGHT, contract="shop")] == [1, None, None]


def test_entries_from_before_people_and_notes_were_logged_still_make_facts(tmp_path: Path) -> None:
    old = asdict(evaluation())
    del old["next_action"]
    old["rules"] = [
        {k: v for k, v in rule.items() if k not in ("note", "periods_needed", "days_needed")} for rule in old["rules"]
    ]
    said = {"contract": "promo", "cycle_date": NIGHT.isoformat(), "promotes": "k1", **old}
    entry = decision_log.append(tmp_path, "decision", said, AT)
    del entry.payload["by"]
    [decision], rules = log_facts.of_decisions([entry])
    assert (decision["decided_by"], decision["next_action"]) == (None, None)
    assert facts.table("decision_rules", rules).column("note").to_pylist() == [None, None]


def test_the_incumbent_is_the_champion_of_the_cycles_before(tmp_path: Path) -> None:
    go = decide(tmp_path, model_id="m1")
    assert champions.incumbent(tmp_path, "promo", NIGHT) is None
    found = champions.incumbent(tmp_path, "promo", NIGHT + dt.timedelta(days=1))
    assert found == champions.Champion("m1", "m1", 1, NIGHT, go.decision_id)


def test_the_same_evidence_from_other_data_sets_is_another_decision(tmp_path: Path) -> None:
    """Otherwise a HOLD could not be approved any more after an evaluation that gave the same numbers."""
    made = [
        decision_log.append_decision(tmp_path, "promo", NIGHT, evaluation(), refit_from={"rows": key})
        for key in ("a", "a", "b")
    ]
    assert [entry.seq for entry in made] == [1, 1, 2]
    assert made[0].payload["refit_from"] == {"rows": "a"}


def test_a_rule_that_was_waived_since_makes_another_decision(tmp_path: Path) -> None:
    """Two soft rules fail and one of them is waived: HOLD again, but for another reason."""
    held = evaluation("HOLD")
    first = decision_log.append_decision(tmp_path, "promo", NIGHT, held)
    second = decision_log.append_decision(tmp_path, "promo", NIGHT, replace(held, reason="the other rule"))
    assert (first.seq, second.seq) == (1, 2)
