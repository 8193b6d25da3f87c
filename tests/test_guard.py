"""The guard: a release that breaks a live rule is left in one flip, its model with it; nothing else moves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import served_world as world
from typer.testing import CliRunner

from jobs import champions, cli, decision_log, guard, operations_log, pointings, registry, releases, served_links
from jobs.gate import load_gate
from jobs.policies import PolicyError


@pytest.fixture(scope="module")
def one_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good night by model a."""
    root = tmp_path_factory.mktemp("one") / "warehouse"
    first = world.decided(root, 0, "a")
    world.published(root, 0, "a", world.logits(), first.decision_id)
    return root


@pytest.fixture
def warehouse(one_night: Path, tmp_path: Path) -> Path:
    """A copy of the good night to go on from."""
    shutil.copytree(one_night, tmp_path / "warehouse", symlinks=True)
    return tmp_path / "warehouse"


def second_night(warehouse: Path, scores: np.ndarray) -> None:
    """A night whose GO promotes model b, with its `scores`."""
    go = world.decided(warehouse, 1, "b")
    world.published(warehouse, 1, "b", scores, go.decision_id)


def read(sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def run(warehouse: Path, live: list[dict[str, Any]] | None = None) -> guard.Outcome:
    return guard.run(warehouse, world.CONTRACT, world.gate_file(warehouse.parent, live))


def test_a_garbled_model_is_left_within_one_run(warehouse: Path) -> None:
    second_night(warehouse, world.logits(seed=7))
    assert champions.champion(warehouse, "tiny") == "b"
    outcome = run(warehouse)
    assert outcome.entry is not None
    said = outcome.entry.payload
    # Two worlds drawn independently agree by chance: Spearman of 2,400 pairs of 300 + 8 effects, far below 0.4.
    [breach] = said["breaches"]
    assert breach["rule"] == "ranks"
    assert breach["bound"] == ">= 0.4"
    assert abs(breach["value"]) < 0.4
    assert breach["text"].endswith(", must be >= 0.4 (another order)")
    assert (said["release_id"], said["to"]) == ("tiny-2017-12-11", "tiny-2017-12-04")
    assert outcome.entry.text.startswith("AUTO_ROLLBACK tiny-2017-12-11 to tiny-2017-12-04: ranks: ")

    assert json.loads((warehouse / "current.json").read_text())["release_id"] == "tiny-2017-12-04"
    assert (warehouse / "current").resolve().name == "tiny-2017-12-04"
    assert champions.champion(warehouse, "tiny") == "a"
    assert json.loads((warehouse / "models" / "aliases.json").read_text())["champion"]["tiny"]["model_id"] == "a"
    # What a reader of the tree by date finds for the bad night is what is served: the scores of the good one.
    assert world.shown(warehouse) == {"2017-12-04": "0-a", "2017-12-11": "0-a"}
    [event] = operations_log.entries(warehouse)
    assert (event.kind, event.ok) == ("guard", False)


def test_the_guard_twice_is_the_guard_once(warehouse: Path) -> None:
    second_night(warehouse, world.logits(seed=7))
    first = run(warehouse)
    before = decision_log.path_of(warehouse).read_bytes()
    again = run(warehouse)
    assert (again.entry, again.line, again.is_new) == (first.entry, first.line, False)
    assert decision_log.path_of(warehouse).read_bytes() == before
    assert len(operations_log.entries(warehouse)) == 1


def test_all_well_is_an_event_and_no_entry(warehouse: Path) -> None:
    second_night(warehouse, world.logits() + 0.05)
    before = decision_log.path_of(warehouse).read_bytes()
    outcome = run(warehouse)
    assert {one.rule: one.outcome for one in outcome.checked} == {
        "ranks": "pass",
        "level": "pass",
        "logloss": "unknown",  # there is no such mart: not known, and breaks nothing
    }
    assert outcome.line == "tiny-2017-12-11 stays: 2 live rules hold, 1 not known"
    assert decision_log.path_of(warehouse).read_bytes() == before
    [event] = operations_log.entries(warehouse)
    assert (event.kind, event.ok, event.detail) == ("guard", True, outcome.line)
    rows = read(f"select rule, value, outcome from '{warehouse}/guard/*/live_rules.parquet'")
    assert [row[0] for row in rows] == ["ranks", "level", "logloss"]
    assert rows[0][1] == pytest.approx(1.0)  # a shift of all logits keeps every rank


def test_a_soft_rule_is_only_told(warehouse: Path) -> None:
    second_night(warehouse, world.logits() + 0.5)  # exp(0.5) = 1.65 times the odds
    outcome = run(warehouse)
    assert outcome.entry is None
    assert "; told only: level: 1." in outcome.line
    assert world.current_id(warehouse) == "tiny-2017-12-11"


def test_the_first_release_stays_but_its_model_does_not(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    go = world.decided(warehouse, 0, "a")
    world.published(warehouse, 0, "a", world.logits(), go.decision_id, excess=0.1)
    outcome = run(warehouse)
    assert outcome.entry is not None
    assert outcome.entry.payload["to"] is None
    assert outcome.entry.payload["demotes"] == go.decision_id
    assert outcome.line == "AUTO_ROLLBACK tiny-2017-12-04 to nothing earlier: logloss: 0.1, must be <= 0"
    assert world.current_id(warehouse) == "tiny-2017-12-04"
    assert champions.champion(warehouse, "tiny") is None  # the next night scores with the prior
    assert pointings.standing(decision_log.entries(warehouse), "tiny") == []  # nor are its scores served as stale


def test_a_model_that_proved_bad_is_left_for_the_last_release_of_another(warehouse: Path) -> None:
    go = world.decided(warehouse, 1, "b")
    world.published(warehouse, 1, "b", world.logits(), go.decision_id)
    held = world.decided(warehouse, 2, "c", "HOLD")
    world.published(warehouse, 2, "b", world.logits(), held.decision_id, excess=0.02)
    outcome = run(warehouse)
    assert outcome.entry is not None
    assert (outcome.entry.payload["to"], outcome.entry.payload["demotes"]) == ("tiny-2017-12-04", go.decision_id)
    assert champions.champion(warehouse, "tiny") == "a"
    assert world.shown(warehouse) == dict.fromkeys(("2017-12-04", "2017-12-11", "2017-12-18"), "0-a")


def test_the_same_model_before_and_after_is_not_demoted(warehouse: Path) -> None:
    """Scores that broke although the model is the one of the night before: it is the release that is left."""
    held = world.decided(warehouse, 1, "b", "HOLD")
    world.published(warehouse, 1, "a", world.logits(seed=7), held.decision_id)
    outcome = run(warehouse)
    assert outcome.entry is not None
    assert (outcome.entry.payload["to"], outcome.entry.payload["demotes"]) == ("tiny-2017-12-04", None)
    assert champions.champion(warehouse, "tiny") == "a"


def test_a_go_that_was_never_published_is_demoted_with_the_one_that_was(warehouse: Path) -> None:
    between = world.decided(warehouse, 1, "b")  # its publication failed
    go = world.decided(warehouse, 2, "c")
    world.published(warehouse, 2, "c", world.logits(seed=7), go.decision_id)
    outcome = run(warehouse)
    assert outcome.entry is not None
    assert outcome.entry.payload["demotes"] == go.decision_id
    assert outcome.entry.payload["also_demotes"] == [between.decision_id]
    assert champions.champion(warehouse, "tiny") == "a"


def test_decided_twice_on_one_cycle_the_first_counts_again(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    first = world.decided(warehouse, 0, "a", evidence="one")
    world.published(warehouse, 0, "a", world.logits(), first.decision_id)
    second = world.decided(warehouse, 0, "b", evidence="two")
    world.published(warehouse, 0, "b", world.logits(seed=7), second.decision_id)
    outcome = run(warehouse)
    assert outcome.entry is not None
    assert outcome.entry.payload["demotes"] == second.decision_id
    assert champions.champion(warehouse, "tiny") == "a"


def test_what_was_left_is_not_published_again_but_can_be_rolled_back_to(warehouse: Path) -> None:
    second_night(warehouse, world.logits(seed=7))
    run(warehouse)
    go = decision_log.entries(warehouse)[2].decision_id
    again = world.published(warehouse, 1, "b", world.logits(seed=7), go)  # the same content by the same decision
    assert (again.release_id, again.is_current) == ("tiny-2017-12-11", False)
    assert releases.finish(warehouse, "tiny-2017-12-11").is_current is False
    assert [release.release_id for release in releases.list_releases(warehouse)] == [
        "tiny-2017-12-04",
        "tiny-2017-12-11",
    ]
    assert releases.rollback(warehouse, to="tiny-2017-12-11").is_current
    outcome = run(warehouse)  # whoever rolled back by name has looked
    assert (outcome.entry, outcome.line) == (None, "tiny-2017-12-11 was rolled back to by hand: not guarded")
    assert champions.champion(warehouse, "tiny") == "a"  # which a rollback does not change


def test_the_next_good_night_goes_forward_and_the_model_only_by_a_new_decision(warehouse: Path) -> None:
    second_night(warehouse, world.logits(seed=7))
    run(warehouse)
    held = world.decided(warehouse, 2, "c", "HOLD")
    assert champions.champion(warehouse, "tiny", world.day(2)) == "a"
    incumbent = champions.incumbent(warehouse, "tiny", world.day(2))
    assert incumbent is not None
    assert incumbent.promotes == "a"
    world.published(warehouse, 2, "a", world.logits() + 0.01, held.decision_id)
    outcome = run(warehouse)  # against the good night, not against the one that was left
    assert outcome.entry is None
    assert world.current_id(warehouse) == "tiny-2017-12-18"
    assert world.shown(warehouse)["2017-12-11"] == "0-a"
    world.decided(warehouse, 3, "b")
    assert champions.champion(warehouse, "tiny") == "b"


def test_an_approval_promotes_what_was_demoted(warehouse: Path) -> None:
    second_night(warehouse, world.logits(seed=7))
    run(warehouse)
    go = decision_log.entries(warehouse)[2]
    payload = {"contract": "tiny", "cycle_date": go.payload["cycle_date"], "decision_id": go.decision_id}
    decision_log.append(warehouse, "approval", payload | {"promotes": "b", "why": "looked", "by": "ann"})
    assert champions.champion(warehouse, "tiny") == "b"


def test_another_contracts_release_stays_current(warehouse: Path) -> None:
    second_night(warehouse, world.logits(seed=7))
    world.published(warehouse, 1, "z", world.logits(), contract="other")
    outcome = run(warehouse)
    assert outcome.entry is not None
    assert outcome.entry.payload["to"] == "tiny-2017-12-04"
    assert world.current_id(warehouse) == "other-2017-12-11"
    assert releases.rebuild_pointer(warehouse).release_id == "other-2017-12-11"
    assert releases.last_pointed(warehouse, "tiny") == "tiny-2017-12-04"


def test_a_crash_between_flip_and_log_is_made_good(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second_night(warehouse, world.logits(seed=7))

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decision_log, "append", die)
        with pytest.raises(KeyboardInterrupt):
            run(warehouse)
    assert world.current_id(warehouse) == "tiny-2017-12-04"
    outcome = run(warehouse)
    assert outcome.entry is not None
    assert champions.champion(warehouse, "tiny") == "a"


def test_a_damaged_release_is_not_gone_back_to(warehouse: Path) -> None:
    second_night(warehouse, world.logits(seed=7))
    mart = warehouse / "releases" / "tiny-2017-12-04" / "mart.duckdb"
    mart.chmod(0o644)
    mart.write_bytes(b"")
    outcome = run(warehouse)
    # Nothing is left to compare with, so its ranks are not known: nothing is broken, and it stays.
    assert outcome.entry is None
    assert {one.rule: one.outcome for one in outcome.checked}["ranks"] == "unknown"


def test_nothing_published_is_said(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    with pytest.raises(releases.ReleaseError, match="nothing of tiny was published: run `fieldmart nightly` first"):
        run(warehouse)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"severity": "firm"}, r"live\[0\] \(ranks\).severity: must be 'hard' or 'soft', got 'firm'"),
        ({"blames": "nobody"}, r"live\[0\] \(ranks\).blames: must be 'release' or 'model', got 'nobody'"),
        ({"threshold": "low"}, r"live\[0\] \(ranks\).threshold: must be a valid number, got 'low'"),
        ({"name": "auc"}, r"rules must have different names, got 'auc' twice"),
    ],
)
def test_live_rules_are_validated_as_the_others(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        load_gate(world.gate_file(tmp_path, [world.LIVE[0] | change]))


def test_the_registered_hash_covers_the_live_rules(tmp_path: Path) -> None:
    before = load_gate(world.gate_file(tmp_path)).sha
    after = load_gate(world.gate_file(tmp_path, [world.LIVE[0] | {"threshold": 0.39}, *world.LIVE[1:]])).sha
    assert before != after


def test_the_projects_own_live_rules_are_read(tmp_path: Path) -> None:
    live = load_gate(cli.PROJECT / "conf" / "gate.yml").live
    assert {rule.blames for rule in live} == {"release", "model"}
    assert {rule.mart for rule in live} == {
        "fct_score_audits",
        "fct_entity_scores",
        "fct_release_comparison",
        "fct_live_performance",
    }


def test_the_projects_own_live_rules_fit_the_marts(mart: str, tmp_path: Path) -> None:
    """Each is one number or not known in a release of all marts, and never an error."""
    live = load_gate(cli.PROJECT / "conf" / "gate.yml").live
    folder = tmp_path / "releases" / "whole"
    folder.mkdir(parents=True)
    shutil.copy(mart, folder / "mart.duckdb")
    found = guard.check(tmp_path, releases.Release("whole", folder, {}, True), None, live)
    assert [one.rule for one in found] == [rule.name for rule in live]
    # The invented period that is final: logloss .334 of 1,000 rows, of which 104 converted, and of the rate .104 alone
    # -.104 ln .104 - .896 ln .896 = .33382.
    assert [one.rule for one in found if one.outcome == "breach"] == ["live_logloss"]
    known = {one.rule for one in found if one.value is not None}
    # The invented audits have other names, and there is no release before to compare with.
    assert known == {"live_confidence", "live_logloss", "live_calibration_not_low", "live_calibration_not_high"}


def test_the_command_says_what_it_found_and_ends_with_its_own_code(
    warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "update", lambda *_: None)  # tests/test_registry.py
    second_night(warehouse, world.logits(seed=7))
    world.gate_file(tmp_path)
    contract = tmp_path / "tiny.yml"
    contract.write_text(f"extends: {cli.PROJECT / 'conf' / 'promo.yml'}\nname: tiny\n")
    asked = ["guard", "--contract", str(contract), "--warehouse", str(warehouse)]
    first = CliRunner().invoke(cli.app, asked)
    assert first.exit_code == 6
    assert "breach  hard ranks: " in first.stdout
    assert "AUTO_ROLLBACK tiny-2017-12-11 to tiny-2017-12-04" in first.stdout
    again = CliRunner().invoke(cli.app, [*asked, "--json"])
    assert again.exit_code == 6
    assert json.loads(again.stdout)["entry"]["payload"]["to"] == "tiny-2017-12-04"
    listed = CliRunner().invoke(cli.app, ["releases", "--warehouse", str(warehouse)])
    assert [line[:17] for line in listed.stdout.splitlines()] == ["* tiny-2017-12-04", "! tiny-2017-12-11"]


@pytest.mark.parametrize("same", [True, False])
def test_numbers_of_the_comparison_are_those_of_numpy(tmp_path: Path, same: bool) -> None:
    warehouse = tmp_path / "warehouse"
    rng = np.random.default_rng(3)
    now = world.logits() + rng.normal(0, 0.5, (world.ENTITIES, world.CANDIDATES))
    before = now if same else world.logits()
    go = world.decided(warehouse, 0, "a")
    world.published(warehouse, 0, "a", before, go.decision_id)
    world.published(warehouse, 1, "a", now, go.decision_id)
    run(warehouse)
    [row] = read(
        "select n_pairs, rank_correlation, top_overlap, mean_p_ratio, n_entities, entity_rank_correlation, psi"
        f" from '{warehouse}/guard/*/fct_release_comparison.parquet'"
    )

    def ranks(values: np.ndarray) -> np.ndarray:
        return values.argsort().argsort()

    p, q = (1 / (1 + np.exp(-x.ravel())) for x in (now, before))
    top = int(0.1 * len(p))
    overlap = len(set(p.argsort()[-top:]) & set(q.argsort()[-top:])) / top
    by_entity = np.corrcoef(ranks(now.mean(1)), ranks(before.mean(1)))[0, 1]
    expected = (len(p), np.corrcoef(ranks(p), ranks(q))[0, 1], overlap, p.mean() / q.mean(), world.ENTITIES, by_entity)
    assert row[:6] == pytest.approx(expected, abs=1e-6)
    edges = np.quantile(q, np.arange(1, 10) / 10)
    counts = [(np.bincount(np.searchsorted(edges, x), minlength=10) + 0.5) / (len(p) + 5) for x in (p, q)]
    assert row[6] == pytest.approx(sum((counts[0] - counts[1]) * np.log(counts[0] / counts[1])), abs=1e-9)


def test_who_rolls_back_while_the_guard_judges_is_not_overruled(
    warehouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_night(warehouse, world.logits(seed=7))
    held = world.decided(warehouse, 2, "c", "HOLD")
    world.published(warehouse, 2, "b", world.logits(seed=8), held.decision_id)
    judge = guard.check

    def meanwhile(*given: Any) -> list[guard.Checked]:
        releases.rollback(warehouse, "tiny-2017-12-04")  # a person, whose links are still to follow
        return judge(*given)

    monkeypatch.setattr(guard, "check", meanwhile)
    outcome = run(warehouse)
    served_links.follow_log(warehouse, "tiny")
    assert "breach" in {one.outcome for one in outcome.checked}
    assert outcome.entry is None
    assert outcome.line == (
        "tiny-2017-12-18 is not guarded, somebody went elsewhere meanwhile:"
        " the log's last is a rollback of tiny-2017-12-04"
    )
    log = decision_log.entries(warehouse)
    assert log[-1].kind == "rollback"
    assert world.current_id(warehouse) == pointings.last_of(log, "tiny") == "tiny-2017-12-04"
    assert set(world.shown(warehouse).values()) == {"0-a"}
    assert run(warehouse).line == "tiny-2017-12-04 was rolled back to by hand: not guarded"
