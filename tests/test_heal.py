"""Healing: what follows from the log is made anew, whatever became of it, and twice is once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import served_world as world
from typer.testing import CliRunner

from jobs import cli, decision_log, guard, heal, releases, served_links, verification

WHOLE = ["nothing to heal: aliases, pointer, links and registry are those of the log"]


@pytest.fixture(scope="module")
def three_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good nights; the first and second promoted."""
    root = tmp_path_factory.mktemp("three") / "warehouse"
    for week, model_id in enumerate(("a", "b")):
        go = world.decided(root, week, model_id)
        world.published(root, week, model_id, world.logits() + 0.01 * week, go.decision_id)
    held = world.decided(root, 2, "c", "HOLD")
    world.published(root, 2, "b", world.logits() + 0.02, held.decision_id)
    assert heal.run(root) == WHOLE
    return root


@pytest.fixture
def warehouse(three_nights: Path, tmp_path: Path) -> Path:
    """A copy that a test may harm."""
    shutil.copytree(three_nights, tmp_path / "warehouse", symlinks=True)
    return tmp_path / "warehouse"


def seen(warehouse: Path) -> tuple[str, str, dict, dict]:
    """All that follows from the log."""
    aliases = json.loads((warehouse / "models" / "aliases.json").read_text())
    pointer = json.loads((warehouse / "current.json").read_text())
    return pointer["release_id"], (warehouse / "current").resolve().name, aliases, world.shown(warehouse)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9])


HARM: dict[str, tuple[Callable[[Path], object], str]] = {
    "no aliases": (lambda root: (root / "models" / "aliases.json").unlink(), "models/aliases.json: written anew"),
    "aliases cut": (lambda root: cut(root / "models" / "aliases.json"), "models/aliases.json: written anew"),
    "other aliases": (lambda root: (root / "models" / "aliases.json").write_text("[]"), "models/aliases.json: written"),
    "no pointer": (
        lambda root: (root / "current.json").unlink(),
        "current.json and current: nothing -> tiny-2017-12-18",
    ),
    "pointer cut": (lambda root: cut(root / "current.json"), "current.json and current: nothing -> tiny-2017-12-18"),
    "another release": (
        lambda root: (root / "current.json").write_text('{"release_id": "x", "path": "releases/x"}'),
        "current.json and current: x -> tiny-2017-12-18",
    ),
    "no symlink": (lambda root: (root / "current").unlink(), "current.json and current: tiny-2017-12-18 -> tiny-2"),
    "no scores": (lambda root: shutil.rmtree(root / "scores"), "scores/tiny/score_date=2017-12-18: nothing -> "),
}


@pytest.mark.parametrize("harm", HARM)
def test_each_thing_is_made_anew(warehouse: Path, harm: str) -> None:
    before, (do, told) = seen(warehouse), HARM[harm]
    do(warehouse)
    said = heal.run(warehouse)
    assert any(line.startswith(told) for line in said), said
    assert seen(warehouse) == before
    assert heal.run(warehouse) == WHOLE


def test_a_missing_release_leaves_the_newest_whole_one(warehouse: Path) -> None:
    shutil.rmtree(warehouse / "releases" / "tiny-2017-12-18")
    said = heal.run(warehouse)
    assert "current.json and current: tiny-2017-12-18 -> tiny-2017-12-11" in said
    assert any("tiny-2017-12-18, which is missing or damaged: tiny-2017-12-11 is shown instead" in s for s in said)
    current = releases.current(warehouse)
    assert current is not None
    assert current.release_id == "tiny-2017-12-11"


def test_a_release_that_the_guard_left_is_never_healed_to(warehouse: Path) -> None:
    """The bad night is the newest whole release, and still not shown when the one readers have is damaged."""
    go = world.decided(warehouse, 3, "d")
    world.published(warehouse, 3, "d", world.logits(seed=7), go.decision_id)
    outcome = guard.run(warehouse, "tiny", world.gate_file(warehouse.parent))
    assert outcome.entry is not None
    assert outcome.entry.payload["to"] == "tiny-2017-12-18"
    mart = warehouse / "releases" / "tiny-2017-12-18" / "mart.duckdb"
    mart.chmod(0o644)
    mart.write_bytes(b"")
    heal.run(warehouse)
    current = releases.current(warehouse)
    assert current is not None
    assert current.release_id == "tiny-2017-12-11"
    assert world.shown(warehouse)["2017-12-25"] == "2-b"  # the scores that stand for that date are still there


def test_a_release_that_a_person_took_back_is_never_healed_to(warehouse: Path) -> None:
    """The third night is whole, and was taken back by going to the second, which is damaged now."""
    back = releases.rollback(warehouse, to="tiny-2017-12-11")
    served_links.follow(warehouse, back)
    mart = back.folder / "mart.duckdb"
    mart.chmod(0o644)
    mart.write_bytes(b"")
    said = heal.run(warehouse)
    assert "current.json and current: tiny-2017-12-11 -> tiny-2017-12-04" in said
    assert world.current_id(warehouse) == "tiny-2017-12-04"
    assert world.shown(warehouse)["2017-12-04"] == "0-a"
    again = heal.run(warehouse)
    assert len(again) == 1
    assert again[0].startswith("the log points to tiny-2017-12-11, which is missing or damaged: tiny-2017-12-04 is")
    told = [fault for fault in verification.verify_warehouse(warehouse).faults if "current.json" in fault]
    assert [fault.partition(": ")[2] for fault in told] == [  # nothing that heal mends
        "names tiny-2017-12-04, the decision log tiny-2017-12-11, which is missing or damaged: mend that, then"
        " `fieldmart heal`"
    ]


def test_nothing_whole_is_said(warehouse: Path) -> None:
    for release in releases.list_releases(warehouse):
        shutil.rmtree(release.folder)
    said = heal.run(warehouse)
    assert said[0] == ("no release that the decision log names is whole, tiny-2017-12-18 neither: run the nightly")
    assert said[1] == "links of tiny: no whole release is left to lead to"


def test_an_empty_warehouse_has_nothing_to_heal(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    assert [line for line in heal.run(tmp_path) if "aliases" not in line] == []
    assert heal.run(tmp_path) == WHOLE


def test_a_broken_log_is_named(warehouse: Path) -> None:
    path = decision_log.path_of(warehouse)
    path.write_text(path.read_text().replace("tiny", "tine", 1))
    told = CliRunner().invoke(cli.app, ["heal", "--warehouse", str(warehouse)])
    assert told.exit_code == 1
    assert "decisions.jsonl, line 1: was changed after writing" in told.stderr


def test_a_rollback_moves_the_dates_after_it_and_forward_again(warehouse: Path) -> None:
    """The latest date of the tree always shows what the current release shows."""
    back = releases.rollback(warehouse, to="tiny-2017-12-04")
    served_links.follow(warehouse, back)
    assert world.shown(warehouse) == dict.fromkeys(("2017-12-04", "2017-12-11", "2017-12-18"), "0-a")
    assert heal.run(warehouse) == WHOLE
    forward = releases.rollback(warehouse, to="tiny-2017-12-18")
    served_links.follow(warehouse, forward)
    # The night in between stays taken back.
    assert world.shown(warehouse) == {"2017-12-04": "0-a", "2017-12-11": "0-a", "2017-12-18": "2-b"}
