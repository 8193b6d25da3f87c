"""What is lost or damaged is a fault that is named, and nothing that follows from it is written or removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_warehouse as tiny
from typer.testing import CliRunner

from jobs import champions, cli, decision_log, heal, health, pointings, registry, releases, retention
from jobs.backup import backup
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


def test_a_publication_that_its_cycle_remembers_was_logged(warehouse: Path) -> None:
    cut_log(warehouse, 3)
    release_id = f"tiny-{tiny.day(1)}"
    path = warehouse / "cycles" / tiny.CONTRACT / f"{tiny.day(1)}.json"
    write_json(path, json.loads(path.read_text()) | {"run": {"published_id": release_id}})
    assert [fault.partition(": ")[2] for fault in log_faults(warehouse)] == [
        f"has no publication of release {release_id}",
        f"has no publication {release_id} of the cycle tiny {tiny.day(1)}",
    ]


class Killed(BaseException):
    """The process died."""


def die(*_: object) -> None:
    raise Killed


DYING = {"before the pointer": (releases, "_write_pointer"), "before the log": (decision_log, "append")}


@pytest.mark.usefixtures("no_registry")
@pytest.mark.parametrize("between", [[], ["heal"]], ids=["next night at once", "healed before"])
@pytest.mark.parametrize("where", DYING)
def test_a_publication_that_died_never_locks_out_what_goes_by_the_log(
    warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, between: list[str]
) -> None:
    """What readers saw is logged before the next publication; what they did not see is never pointed to any more."""
    datasets = tiny.evaluate(warehouse, 2)
    with monkeypatch.context() as patch:
        patch.setattr(*DYING[where], die)
        with pytest.raises(Killed):
            tiny.publish(warehouse, 2, datasets)
    for _ in between:
        heal.run(warehouse)
        assert verify_warehouse(warehouse).faults == []
    new = tiny.run_night(warehouse, 3)
    names = [pointings.target(entry) for entry in decision_log.entries(warehouse) if entry.kind == "publish"]
    was_seen = [f"tiny-{tiny.day(2)}"] if where == "before the log" else []
    assert names == [f"tiny-{tiny.day(0)}", f"tiny-{tiny.day(1)}", *was_seen, f"tiny-{tiny.day(3)}"]
    assert log_faults(warehouse) == []
    heal.run(warehouse)
    retention.plan(warehouse, RULES)
    assert backup(warehouse, tmp_path / "backups").faults == []
    assert not releases.finish(warehouse, f"tiny-{tiny.day(2)}").is_current  # the rerun of the night that died
    assert tiny.read(warehouse) == (new.release_id, 3)


@pytest.mark.usefixtures("no_registry")
@pytest.mark.parametrize("lost", LOST)
def test_a_loss_can_be_accepted(warehouse: Path, tmp_path: Path, lost: str) -> None:
    """No backup has the entries: what the log does not know is set aside, the log says so, and all goes on."""
    for night in (0, 1):
        decision = champions.last_decision(warehouse, tiny.CONTRACT, tiny.day(night))
        assert decision is not None
        path = warehouse / "cycles" / tiny.CONTRACT / f"{tiny.day(night)}.json"
        run = {"decision_id": decision.decision_id, "published_id": f"tiny-{tiny.day(night)}"}
        before = json.loads(path.read_text()) | {"run": run}
        write_json(path, before)
    LOST[lost](warehouse)
    known = {pointings.target(entry) for entry in decision_log.entries(warehouse)} - {None}
    gone = sorted({release.release_id for release in releases.list_releases(warehouse)} - known)

    said = heal.run(warehouse, accept_loss=True)
    entry = next(entry for entry in decision_log.entries(warehouse) if entry.kind == "loss")
    assert (entry.payload["releases"], entry.payload["cycles"]) == (
        gone,
        [name.replace("tiny-", "tiny ") for name in gone],
    )
    assert decision.decision_id in entry.payload["decisions"]
    aside = warehouse / entry.payload["set_aside"]
    assert sorted(path.name for path in (aside / "releases").iterdir()) == gone
    assert json.loads((aside / path.relative_to(warehouse)).read_text()) == before
    assert any(line.startswith(f"release {gone[-1]}: set aside in set_aside/") for line in said)

    assert {release.release_id for release in releases.list_releases(warehouse)} == known
    assert verify_warehouse(warehouse).faults == []
    assert backup(warehouse, tmp_path / "backups").faults == []
    assert not (warehouse / "scores" / tiny.CONTRACT / f"score_date={tiny.day(1)}").is_symlink()
    assert "nothing to accept" in heal.run(warehouse, accept_loss=True)[0]
    assert tiny.run_night(warehouse, 1).release_id == f"tiny-{tiny.day(1)}"


def test_a_log_that_is_gone_is_no_new_log(warehouse: Path) -> None:
    """Neither healthy nor written to: a first entry would start a second chain over what the first one says."""
    aliases = champions.aliases_path(warehouse).read_text()
    log = decision_log.path_of(warehouse)
    log.unlink()
    shown = "has no entry, and releases/tiny-2026-01-0[12] shows that there was one: bring the log back"
    with pytest.raises(decision_log.LogError, match=shown):
        releases.rollback(warehouse)
    with pytest.raises(decision_log.LogError, match=shown):
        tiny.evaluate(warehouse, 2)
    with pytest.raises(decision_log.LogError, match=shown):
        champions.write_aliases(warehouse)
    assert not log.exists() or log.read_bytes() == b""
    assert champions.aliases_path(warehouse).read_text() == aliases
    for command in (["log"], ["log", "verify"]):
        told = CliRunner().invoke(cli.app, [*command, "--warehouse", str(warehouse)])
        assert (told.exit_code, "entries were lost" in told.stderr) == (1, True), told.output


@pytest.mark.parametrize("witness", ["releases", "cycles", "models"])
def test_each_thing_alone_shows_that_there_was_a_log(warehouse: Path, witness: str) -> None:
    path = warehouse / "cycles" / tiny.CONTRACT / f"{tiny.day(0)}.json"
    write_json(path, json.loads(path.read_text()) | {"run": {"decision_id": "abc"}})
    decision_log.path_of(warehouse).unlink()
    for other in {"releases", "cycles", "models"} - {witness}:
        shutil.rmtree(warehouse / other)
    with pytest.raises(decision_log.LogError, match=f"has no entry, and {witness}/.* shows that there was one"):
        decision_log.append(warehouse, "decision", {})
    shutil.rmtree(warehouse / witness)
    assert decision_log.append(warehouse, "decision", {}).seq == 1


def test_a_log_that_lost_entries_is_red(warehouse: Path) -> None:
    place: Any = SimpleNamespace(warehouse=warehouse)
    assert health._log_chain(place).status == "ok"
    decision_log.path_of(warehouse).unlink()
    found = health._log_chain(place)
    assert (found.status, "has no publication of release" in found.evidence) == ("red", True)
    assert "bring the log back from a backup" in found.advice


@pytest.mark.parametrize("command", [["log"], ["log", "verify"]])
def test_the_log_of_no_warehouse_is_one_clear_error(tmp_path: Path, command: list[str]) -> None:
    told = CliRunner().invoke(cli.app, [*command, "--warehouse", str(tmp_path / "none")])
    assert (told.exit_code, told.stdout) == (1, "")
    assert "no warehouse at" in told.stderr


@pytest.mark.usefixtures("no_registry")
def test_a_copy_of_a_release_is_none(warehouse: Path) -> None:
    """Published again, what it says is the release's, not the copy's."""
    shutil.copytree(warehouse / "releases" / OLD, warehouse / "releases" / f"{OLD}.bak")
    assert [release.release_id for release in releases.list_releases(warehouse)] == [OLD, f"tiny-{tiny.day(1)}"]
    copied = f"release {OLD}.bak: manifest.json is that of {OLD}, of which this is a copy"
    assert any(fault.startswith(copied) for fault in verify_warehouse(warehouse).faults)
    assert any(line.startswith(copied) for line in heal.run(warehouse))
    assert tiny.run_night(warehouse, 0).release_id == OLD
    assert tiny.read(warehouse) == (OLD, 0)


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
