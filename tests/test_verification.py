"""What is lost or damaged is a fault that is named, and nothing that follows from it is written or removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_warehouse as tiny

from jobs import champions, decision_log, heal, registry, releases, retention
from jobs.lake import LakeError, write_json
from jobs.verification import log_faults, verify_warehouse

OLD = f"tiny-{tiny.day(0)}"
RULES = retention.load(Path("conf/retention.yml"))


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """Two nights; the first promoted its model."""
    return tiny.copy(tmp_path / "wh")


@pytest.fixture
def no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cards of the tiny warehouse are too small for MLflow."""
    monkeypatch.setattr(registry, "sync", lambda *_, **__: registry.Synced(0, 0, 0, False))


def cut_log(warehouse: Path, lines: int) -> None:
    path = decision_log.path_of(warehouse)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))


LOST: dict[str, Callable[[Path], object]] = {
    "no file": lambda root: decision_log.path_of(root).unlink(),
    "empty": lambda root: cut_log(root, 0),
    "first line only": lambda root: cut_log(root, 1),  # of four: decision, publish, decision, publish
    "the last decision is gone": lambda root: cut_log(root, 2),
}


@pytest.mark.parametrize("lost", LOST)
def test_lost_entries_of_the_log_are_named_and_stop_what_follows_from_it(warehouse: Path, lost: str) -> None:
    assert log_faults(warehouse) == []
    LOST[lost](warehouse)
    aliases = champions.aliases_path(warehouse).read_text()
    faults = log_faults(warehouse)
    assert any(f"has no publication of release tiny-{tiny.day(1)}" in fault for fault in faults)
    assert any("challenger of tiny" in fault for fault in faults)
    assert set(faults) <= set(verify_warehouse(warehouse).faults)
    with pytest.raises(decision_log.LogError, match="entries were lost, bring the log back from a backup"):
        heal.run(warehouse)
    with pytest.raises(decision_log.LogError, match="entries were lost"):
        retention.plan(warehouse, RULES)
    assert champions.aliases_path(warehouse).read_text() == aliases


def test_a_cycle_remembers_what_the_log_lost(warehouse: Path) -> None:
    path = warehouse / "cycles" / tiny.CONTRACT / f"{tiny.day(1)}.json"
    state = json.loads(path.read_text())
    write_json(path, state | {"run": {"decision_id": "abc", "published_id": "gone-1"}})
    faults = log_faults(warehouse)
    assert [fault.partition(": ")[2] for fault in faults] == [
        f"has no decision abc of the cycle tiny {tiny.day(1)}",
        f"has no publication gone-1 of the cycle tiny {tiny.day(1)}",
    ]


def test_a_publication_that_died_before_its_entry_is_no_fault(warehouse: Path) -> None:
    """The night's rerun finishes it."""
    cut_log(warehouse, 3)
    assert log_faults(warehouse) == []


GONE: dict[str, tuple[str, str]] = {
    "champion": ("models/ffm-refit-0", "model ffm-refit-0: is gone"),
    "its candidate": ("models/ffm-candidate-0", "model ffm-candidate-0: is gone"),
    "what it learned from": ("lake/exposures/exposures0", "exposures exposures0: is gone"),
    "of the last cycle": ("lake/rows/rows1", "rows rows1: is gone"),
    "of the release": ("lake/runs/runs1", "runs runs1: is gone"),
    "manifest of a release": (f"releases/{OLD}/manifest.json", f"release {OLD}: manifest.json is missing"),
    "cycle of the champion": (f"cycles/tiny/{tiny.day(0)}.json", "a champion was promoted on it"),
}


@pytest.mark.parametrize("what", GONE)
def test_what_is_needed_and_wholly_gone_is_a_fault(warehouse: Path, what: str) -> None:
    assert verify_warehouse(warehouse).faults == []
    path, told = warehouse / GONE[what][0], GONE[what][1]
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    faults = verify_warehouse(warehouse).faults
    assert any(told in fault for fault in faults), faults


DAMAGE = {"not UTF-8": b"\xff\xfe{", "cut": b'{"a', "a list": b"[]", "empty object": b"{}", "a number": b"1"}


def harm(path: Path, text: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(text)


@pytest.mark.usefixtures("no_registry")
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_manifest_of_an_old_release_stops_nothing_else(warehouse: Path, damage: str) -> None:
    harm(warehouse / "releases" / OLD / "manifest.json", DAMAGE[damage])
    assert [release.release_id for release in releases.list_releases(warehouse)] == [f"tiny-{tiny.day(1)}"]
    assert releases.unreadable(warehouse) == [OLD]
    assert any(fault.startswith(f"release {OLD}: manifest.json") for fault in verify_warehouse(warehouse).faults)
    assert any(line.startswith(f"release {OLD}: manifest.json is missing or damaged") for line in heal.run(warehouse))
    with pytest.raises(LakeError, match=f"release {OLD}: manifest.json is missing or damaged: nothing is removed"):
        retention.plan(warehouse, RULES)
    assert tiny.run_night(warehouse, 2).is_current


@pytest.mark.usefixtures("no_registry")
@pytest.mark.parametrize("damage", ["not UTF-8", "a list"])
@pytest.mark.parametrize("name", ["current.json", "models/aliases.json"])
def test_a_damaged_pointer_or_alias_file_is_a_fault_that_heals(warehouse: Path, name: str, damage: str) -> None:
    before = json.loads((warehouse / name).read_text())
    harm(warehouse / name, DAMAGE[damage])
    assert any(name in fault for fault in verify_warehouse(warehouse).faults)
    heal.run(warehouse)
    assert json.loads((warehouse / name).read_text()) == before
    assert verify_warehouse(warehouse).faults == []


UNREADABLE = {
    "cycle": f"cycles/tiny/{tiny.day(0)}.json",
    "card of the champion": "models/ffm-refit-0/card.json",
    "what a kept cycle lists": "lake/models/models1/manifest.json",
}


@pytest.mark.parametrize("damage", ["not UTF-8", "empty object"])
@pytest.mark.parametrize("what", UNREADABLE)
def test_nothing_is_removed_while_something_that_names_others_cannot_be_read(
    warehouse: Path, what: str, damage: str
) -> None:
    harm(warehouse / UNREADABLE[what], DAMAGE[damage])
    with pytest.raises(LakeError, match=r"(ffm-refit-0|models1|2026-01-01\.json).*: nothing is removed"):
        retention.plan(warehouse, RULES)
    assert verify_warehouse(warehouse).faults != []
