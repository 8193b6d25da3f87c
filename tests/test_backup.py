"""Backup and restore: one consistent set, also while a night publishes; what comes back is what was there."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_warehouse as tiny
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from jobs import backup as backups
from jobs import backup_contents, backup_store, champions, decision_log, night_lock, operations_log, releases, retention
from jobs.backup import backup
from jobs.backup_checks import identity
from jobs.backup_contents import LakePart
from jobs.backup_store import BackupError, Store
from jobs.cli import app
from jobs.lake import sha256_file
from jobs.reachable import datasets_of, nights
from jobs.restore import RestoreError, restore
from jobs.verification import verify, verify_warehouse


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    return tiny.copy(tmp_path / "wh")


def content(warehouse: Path) -> dict[str, tuple[str, int]]:
    """Path -> (hash, mode) or (target of the link, 0) of all but locks, the log of operations, which goes on, and the
    warehouse's id, which the first backup gives it."""
    mine = ("operations", "outside", "warehouse_id")
    found = {}
    for path in sorted(warehouse.rglob("*")):
        name = path.relative_to(warehouse).as_posix()
        if path.is_symlink():
            found[name] = (os.readlink(path), 0)
        elif path.is_file() and not path.name.endswith(".lock") and not any(part in name for part in mine):
            found[name] = (sha256_file(path), path.stat().st_mode & 0o777)
    return found


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_what_is_restored_is_what_was_backed_up_with_modes_and_links(warehouse: Path, tmp_path: Path) -> None:
    before = content(warehouse)
    made = backup(warehouse, tmp_path / "bk")
    assert (made.faults, made.sent_files > 0) == ([], True)
    done = restore(tmp_path / "bk", tmp_path / "again" / "wh")
    assert content(tmp_path / "again" / "wh") == before
    assert (done.backup_id, done.release_id) == (made.backup_id, "tiny-2026-01-02")
    assert tiny.read(tmp_path / "again" / "wh") == ("tiny-2026-01-02", 1)
    assert verify(tmp_path / "again" / "wh").faults == []
    assert identity(tmp_path / "again" / "wh") == identity(warehouse)
    modes = {name: mode for name, (_, mode) in before.items() if name.endswith((".duckdb", ".parquet"))}
    assert set(modes.values()) == {0o444}  # and so they are after the restore, since the contents are equal


def test_a_second_backup_sends_only_what_is_new(warehouse: Path, tmp_path: Path) -> None:
    first = backup(warehouse, tmp_path / "bk")
    again = backup(warehouse, tmp_path / "bk")
    # Between them the first wrote one line to the log of operations, and nothing else.
    assert (again.files, again.sent_files) == (first.files + 1, 1)
    tiny.run_night(warehouse, 2)
    third = backup(warehouse, tmp_path / "bk")
    # New: 3 + 4 data sets and their manifests, but equal tables of `exposures`, `vocabulary`, `rows`, `runs` and
    # `scores` are one blob; 2 models of 2 files; mart and manifest of the release; cycle, log, pointer, operations.
    # (HOLD leaves the champion; the aliases change all the same: who challenges is another.)
    blobs = {entry["sha256"] for entry in Store(tmp_path / "bk").manifest(third.backup_id)["files"]}
    known = {entry["sha256"] for entry in Store(tmp_path / "bk").manifest(again.backup_id)["files"]}
    assert third.sent_files == len(blobs - known)
    assert third.sent_bytes < first.sent_bytes


@pytest.mark.parametrize("url", ["file://{}/bk", "memory://bk-{}"])
def test_a_target_may_be_any_url_of_fsspec(warehouse: Path, tmp_path: Path, url: str) -> None:
    target = url.format(tmp_path if "file" in url else tmp_path.name)
    backup(warehouse, target)
    backup(warehouse, target, keep=1)
    assert len(Store(target).ids()) == 1
    assert verify(target).faults == []
    restore(target, tmp_path / "wh2")
    assert content(tmp_path / "wh2") == content(warehouse)
    MemoryFileSystem.store.clear()


def test_a_target_without_a_driver_or_a_backup_is_one_clear_line(warehouse: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="target nosuch://x cannot be used: Protocol not known: nosuch"):
        backup(warehouse, "nosuch://x")
    with pytest.raises(BackupError, match=r"no backup in .*empty: `fieldmart backup"):
        restore(tmp_path / "empty", tmp_path / "w2")
    with pytest.raises(BackupError, match="is no warehouse: it has neither log nor lake"):
        backup(tmp_path / "nothing", tmp_path / "bk")
    made = backup(warehouse, tmp_path / "bk")
    with pytest.raises(BackupError, match=rf"no backup 'x' in .* \(backups: {made.backup_id}\)"):
        restore(tmp_path / "bk", tmp_path / "w2", backup_id="x")


def test_the_last_backups_are_kept_and_their_blobs_with_them(warehouse: Path, tmp_path: Path) -> None:
    ids = []
    for night in range(2, 6):
        tiny.run_night(warehouse, night, keep=1)
        ids.append(backup(warehouse, tmp_path / "bk", keep=2).backup_id)
    store = Store(tmp_path / "bk")
    assert store.ids() == ids[-2:]
    named = {entry["sha256"] for each in ids[-2:] for entry in store.manifest(each)["files"]}
    assert set(store.blobs()) == named  # nothing that is named went, nothing else stayed
    assert restore(tmp_path / "bk", tmp_path / "w2", backup_id=ids[-2]).release_id == "tiny-2026-01-05"


@pytest.mark.parametrize("what", ["blob changed", "blob gone", "blob cut", "manifest changed"])
def test_a_damaged_backup_is_named_and_never_restored(warehouse: Path, tmp_path: Path, what: str) -> None:
    made = backup(warehouse, tmp_path / "bk")
    mart = next(e for e in Store(tmp_path / "bk").manifest()["files"] if e["path"].endswith("02/mart.duckdb"))
    blob = tmp_path / "bk" / "blobs" / mart["sha256"][:2] / mart["sha256"]
    if what == "blob changed":
        damage(blob)
    elif what == "blob gone":
        blob.unlink()
    elif what == "blob cut":
        blob.write_bytes(blob.read_bytes()[:-1])
    else:
        path = tmp_path / "bk" / "backups" / f"{made.backup_id}.json"
        path.write_text(path.read_text().replace('"release_id": "tiny-2026-01-02"', '"release_id": "tiny-2026-01-01"'))
    [fault] = verify(tmp_path / "bk").faults
    assert made.backup_id in fault
    assert ("manifest was changed" if what == "manifest changed" else "releases/tiny-2026-01-02/mart.duckdb") in fault
    with pytest.raises(BackupError, match="missing from" if what == "blob gone" else "changed after writing"):
        restore(tmp_path / "bk", tmp_path / "w2")
    assert not (tmp_path / "w2").exists()


@pytest.mark.parametrize("what", ["releases/*02/mart.duckdb", "lake/rows/*/*/part-*", "models/*refit*/weights.npy"])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_damaged_file_never_replaces_a_good_blob(warehouse: Path, tmp_path: Path, what: str, is_known: bool) -> None:
    """Its hash is known from a manifest or card. A blob from before serves; without one, the fault is told."""
    if is_known:
        backup(warehouse, tmp_path / "bk")
    before = content(warehouse)
    damage(sorted(warehouse.glob(what))[-1])
    made = backup(warehouse, tmp_path / "bk")
    assert verify(tmp_path / "bk").faults == []
    if is_known:
        assert made.faults == []
        restore(tmp_path / "bk", tmp_path / "w2")
        assert content(tmp_path / "w2") == before  # restored whole, though the original is damaged
    else:
        [fault] = made.faults
        assert "was changed after writing" in fault
        assert not operations_log.entries(warehouse)[-1].ok


def test_a_restore_never_touches_a_warehouse_that_is_there(warehouse: Path, tmp_path: Path) -> None:
    made = backup(warehouse, tmp_path / "bk")
    with pytest.raises(RestoreError, match=r"wh is not empty: restore into another folder \(--warehouse\)"):
        restore(tmp_path / "bk", warehouse)
    (tmp_path / "empty").mkdir()
    restore(tmp_path / "bk", tmp_path / "empty")
    assert tiny.read(tmp_path / "empty") == ("tiny-2026-01-02", 1)
    tiny.run_night(warehouse, 2)
    done = restore(tmp_path / "bk", warehouse, force=True)
    assert done.replaced == tmp_path / f"wh.before-{made.backup_id}"
    assert (tiny.read(warehouse), tiny.read(done.replaced)) == (("tiny-2026-01-02", 1), ("tiny-2026-01-03", 2))


def test_a_backup_of_a_clock_that_was_ahead_stands_behind_those_made_after_it(
    warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Ahead:
            return super().now(tz) + dt.timedelta(days=2)

    with monkeypatch.context() as wrong:
        ahead = SimpleNamespace(datetime=Ahead, UTC=dt.UTC, timedelta=dt.timedelta)
        for module in (backup_store, backup_contents):
            wrong.setattr(module, "dt", ahead)
        early = backup(warehouse, tmp_path / "bk", keep=1).backup_id
    of_early = restore(tmp_path / "bk", tmp_path / "w1")
    assert any("still to come: a clock was wrong, and the RPO is not known" in note for note in of_early.notes)
    tiny.run_night(warehouse, 2)
    late = backup(warehouse, tmp_path / "bk").backup_id
    assert Store(tmp_path / "bk").ids() == [early, late]
    last = backup(warehouse, tmp_path / "bk", keep=1).backup_id
    assert Store(tmp_path / "bk").ids() == [last]
    done = restore(tmp_path / "bk", tmp_path / "w2")
    assert (done.backup_id, done.release_id, done.notes) == (last, "tiny-2026-01-03", [])


def test_rpo_is_counted_from_the_instant_of_the_backup_to_the_loss(warehouse: Path, tmp_path: Path) -> None:
    backup(warehouse, tmp_path / "bk")
    taken = dt.datetime.fromisoformat(Store(tmp_path / "bk").manifest()["taken_at"])
    done = restore(tmp_path / "bk", tmp_path / "w2", lost_at=taken + dt.timedelta(hours=1))
    assert done.rpo_s == 3_600
    event = operations_log.entries(tmp_path / "w2")[-1]
    assert (event.kind, event.ok, event.rpo_s, event.seconds) == ("restore", True, 3_600, done.rto_s)


@pytest.mark.parametrize(("part", "there"), [("full", True), ("facts", False), ("manifests", False)])
def test_of_the_lake_a_backup_may_leave_out_what_is_made_again(
    warehouse: Path, tmp_path: Path, part: str, there: bool
) -> None:
    backup(warehouse, tmp_path / "bk", lake=LakePart(part))
    restore(tmp_path / "bk", tmp_path / "w2")
    found = {path.parent.parent.parent.name for path in (tmp_path / "w2" / "lake").rglob("*.parquet")}
    # `rows` are made again from the snapshot; `exposures` and `vocabulary` are it, `runs` and `scores` are facts.
    assert ("rows" in found, "exposures" in found, "runs" in found) == (there, part != "manifests", part != "manifests")
    kept = tmp_path / "w2" / "outside" / "manifests" / "lake" / "rows" / "rows0" / "manifest.json"
    assert kept.exists() is not there


def test_databases_are_copied_by_their_own_means_and_conf_comes_along(warehouse: Path, tmp_path: Path) -> None:
    """A row that is committed is in, one that is not is out, and no journal is needed to read it."""
    for path in (warehouse / "registry" / "mlflow.db", tmp_path / "airflow.db"):
        path.parent.mkdir(exist_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("pragma journal_mode = wal")
            db.execute("create table runs (id)")
            db.execute("insert into runs values (1)")
            db.commit()
    with contextlib.closing(sqlite3.connect(warehouse / "registry" / "mlflow.db")) as writer:
        writer.execute("insert into runs values (2)")  # not committed, and open
        backup(warehouse, tmp_path / "bk", airflow_db=tmp_path / "airflow.db", conf=Path("conf").resolve())
    restore(tmp_path / "bk", tmp_path / "w2")
    for path in (tmp_path / "w2" / "registry" / "mlflow.db", tmp_path / "w2" / "outside" / "airflow" / "airflow.db"):
        with contextlib.closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as db:
            assert db.execute("select id from runs").fetchall() == [(1,)]
    again = tmp_path / "w2" / "outside" / "conf" / "gate.yml"
    assert again.read_bytes() == Path("conf/gate.yml").read_bytes()


def test_what_is_to_be_taken_along_is_there_and_has_a_name_of_its_own(warehouse: Path, tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dump").write_text(name)
    both = (tmp_path / "x" / "dump", tmp_path / "y" / "dump")
    with pytest.raises(BackupError, match="must have names of their own, got 2 that are called dump"):
        backup(warehouse, tmp_path / "bk", also=both)
    for conf in (tmp_path / "nothing", tmp_path / "x"):
        with pytest.raises(
            BackupError, match=rf"{conf} must be a folder of contracts and policies \(\*\.yml\), got none"
        ):
            backup(warehouse, tmp_path / "bk", conf=conf)
    assert Store(tmp_path / "bk").ids() == []
    backup(warehouse, tmp_path / "bk", also=both[:1])
    restore(tmp_path / "bk", tmp_path / "w2")
    assert (tmp_path / "w2" / "outside" / "also" / "dump").read_text() == "x"


def test_only_what_a_killed_backup_left_half_written_is_swept(warehouse: Path, tmp_path: Path) -> None:
    places = [tmp_path / "bk" / folder / ".new-letter" for folder in ("docs/deep", "blobs/ab", "backups")]
    for place in places:
        place.parent.mkdir(parents=True)
        place.write_text("x")
    backup(warehouse, tmp_path / "bk")
    assert [place.exists() for place in places] == [True, False, False]


def test_derived_files_follow_the_log_that_was_restored(warehouse: Path, tmp_path: Path) -> None:
    (warehouse / "models" / "aliases.json").write_text('{"champion": {}}')
    backup(warehouse, tmp_path / "bk")
    restore(tmp_path / "bk", tmp_path / "w2")
    found = json.loads((tmp_path / "w2" / "models" / "aliases.json").read_text())
    assert found == champions.aliases(decision_log.entries(warehouse))
    assert verify_warehouse(tmp_path / "w2").faults == []


def is_consistent(warehouse: Path) -> None:
    """Whatever is named is there: by pointer, log, cycles, releases and links."""
    assert verify_warehouse(warehouse).faults == []
    current = releases.current(warehouse)
    assert current is not None
    assert releases.last_pointed(warehouse, tiny.CONTRACT) == current.release_id
    assert tiny.read(warehouse)[0] == current.release_id
    lake = {(path.parent.parent.name, path.parent.name) for path in warehouse.glob("lake/*/*/manifest.json")}
    for named in [set(night.state["datasets"].items()) for night in nights(warehouse)]:
        assert named <= lake
    for release in releases.list_releases(warehouse):
        assert datasets_of(release) <= lake
    for entry in decision_log.entries(warehouse):
        if entry.kind == "decision" and entry.payload["verdict"] == "GO":
            assert (warehouse / "models" / entry.payload["promotes"] / "card.json").exists()


def test_backups_taken_while_another_process_publishes_are_each_consistent(warehouse: Path, tmp_path: Path) -> None:
    """It prunes as it goes: of the releases that a backup has seen, most are gone before they are copied."""
    store = Store(tmp_path / "bk")
    moments: dict[str, str] = {}  # of each release that was current, one backup
    program = [sys.executable, str(Path(tiny.__file__)), "publish", str(warehouse), "2", "400"]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL) as nights_go_on:
        try:
            while len(moments) < 4:
                assert nights_go_on.poll() is None
                made = backup(warehouse, tmp_path / "bk")
                assert made.faults == []
                moments[store.manifest(made.backup_id)["release_id"]] = made.backup_id
        finally:
            nights_go_on.kill()
    for release_id, backup_id in moments.items():
        done = restore(tmp_path / "bk", tmp_path / backup_id, backup_id=backup_id)
        assert done.release_id == release_id
        is_consistent(tmp_path / backup_id)


def test_commands_print_what_a_person_needs_and_json_for_machines(warehouse: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    at = ["--warehouse", str(warehouse)]
    made = json.loads(run(app, ["backup", str(tmp_path / "bk"), "--json", *at]).stdout)
    shown = run(app, ["restore", str(tmp_path / "bk"), "--warehouse", str(tmp_path / "w2")])
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert f"from backup {made['backup_id']}" in lines[0]
    assert lines[1] == "current is tiny-2026-01-02"
    assert [part.split("=")[0] for part in lines[2].split()] == ["rto_s", "rpo_s"]
    refused = run(app, ["restore", str(tmp_path / "bk"), *at])
    assert (refused.exit_code, "Traceback" in refused.output) == (1, False)
    assert refused.stderr.startswith("fieldmart: ")
    assert run(app, ["verify", *at]).exit_code == 0
    damage(next((warehouse / "releases" / "tiny-2026-01-01").glob("mart.duckdb")))
    found = run(app, ["verify", *at])
    assert found.exit_code == 1
    said = "fieldmart: release tiny-2026-01-01: mart.duckdb was changed after publication"
    assert found.stderr.splitlines() == [f"{said} (`fieldmart rebuild tiny-2026-01-01`)"]


def test_a_log_that_lost_entries_is_not_backed_up_over_good_backups(warehouse: Path, tmp_path: Path) -> None:
    good = backup(warehouse, tmp_path / "bk").backup_id
    log = decision_log.path_of(warehouse)
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:1]))
    run, at = CliRunner().invoke, ["backup", str(tmp_path / "bk"), "--keep", "1", "--warehouse", str(warehouse)]
    refused = run(app, at)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "has no publication of release" in refused.stderr
    assert "nothing was backed up. Bring the log back from an earlier backup, or insist (--insist)" in refused.stderr
    assert Store(tmp_path / "bk").ids() == [good]
    assert (operations_log.entries(warehouse)[-1].kind, operations_log.entries(warehouse)[-1].ok) == ("backup", False)
    insisted = run(app, [*at, "--insist"])
    assert insisted.exit_code == 1
    assert "no earlier backup was removed: this one has faults" in insisted.stderr
    assert Store(tmp_path / "bk").ids()[0] == good
    log.unlink()
    assert run(app, at).exit_code == 1
    assert len(Store(tmp_path / "bk").ids()) == 2


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("models/ffm-refit-0", "model ffm-refit-0: is gone"),
        ("lake/exposures/exposures1", "exposures exposures1: is gone"),
        ("releases/tiny-2026-01-01/manifest.json", "release tiny-2026-01-01: manifest.json is missing"),
        ("releases/tiny-2026-01-02/manifest.json", "release tiny-2026-01-02: manifest.json is missing"),
    ],
)
def test_what_is_wholly_gone_is_a_fault_and_no_earlier_backup_goes_for_it(
    warehouse: Path, tmp_path: Path, what: str, said: str
) -> None:
    good = backup(warehouse, tmp_path / "bk").backup_id
    gone = warehouse / what
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    shown = CliRunner().invoke(app, ["backup", str(tmp_path / "bk"), "--keep", "1", "--warehouse", str(warehouse)])
    assert shown.exit_code == 1
    assert said in shown.stderr
    assert len(Store(tmp_path / "bk").ids()) == 2
    assert restore(tmp_path / "bk", tmp_path / "w2", backup_id=good).notes == []
    # The one with faults does not count: of the whole ones, the last is kept.
    Store(tmp_path / "bk").prune(1)
    assert good in Store(tmp_path / "bk").ids()


def test_a_damaged_blob_is_sent_again_when_the_backup_checks(warehouse: Path, tmp_path: Path) -> None:
    backup(warehouse, tmp_path / "bk")
    mart = next(e for e in Store(tmp_path / "bk").manifest()["files"] if e["path"].endswith("02/mart.duckdb"))
    damage(tmp_path / "bk" / "blobs" / mart["sha256"][:2] / mart["sha256"])
    backup(warehouse, tmp_path / "bk")
    assert len(verify(tmp_path / "bk").faults) == 1  # of the same name and size: it is not read, so not sent
    shown = CliRunner().invoke(app, ["backup", str(tmp_path / "bk"), "--check", "--warehouse", str(warehouse)])
    assert shown.exit_code == 0, shown.output
    assert verify(tmp_path / "bk").faults == []
    assert restore(tmp_path / "bk", tmp_path / "w2").release_id == "tiny-2026-01-02"


def test_a_place_is_of_one_warehouse(warehouse: Path, tmp_path: Path) -> None:
    made = backup(warehouse, tmp_path / "bk")
    other = tiny.copy(tmp_path / "other" / "wh")
    with pytest.raises(
        BackupError, match=r"bk holds backups of another warehouse, wh \(\w{32}\): take a place of its own"
    ):
        backup(other, tmp_path / "bk", keep=1)
    assert Store(tmp_path / "bk").ids() == [made.backup_id]
    restore(tmp_path / "bk", tmp_path / "again")
    backup(tmp_path / "again", tmp_path / "bk")  # what was restored goes on where the lost one was
    assert len(Store(tmp_path / "bk").ids()) == 2


def test_a_lesser_backup_never_takes_the_place_of_a_full_one(warehouse: Path, tmp_path: Path) -> None:
    full = backup(warehouse, tmp_path / "bk").backup_id
    lesser = [backup(warehouse, tmp_path / "bk", lake=LakePart.manifests, keep=1).backup_id for _ in range(3)]
    assert Store(tmp_path / "bk").ids() == [full, lesser[-1]]
    notes = restore(tmp_path / "bk", tmp_path / "w2").notes
    assert "of the lake the backup holds only its manifests: not all of it can be made again" in notes
    last = backup(warehouse, tmp_path / "bk", keep=1).backup_id
    assert Store(tmp_path / "bk").ids() == [lesser[-1], last]


def test_a_warehouse_that_is_worked_on_is_not_put_aside(warehouse: Path, tmp_path: Path) -> None:
    backup(warehouse, tmp_path / "bk")
    with (
        night_lock.night(warehouse, tiny.CONTRACT),
        pytest.raises(night_lock.NightError, match=r"the warehouse is in use \(.*\): wait for it, or end it"),
    ):
        restore(tmp_path / "bk", warehouse, force=True)
    assert tiny.read(warehouse) == ("tiny-2026-01-02", 1)
    assert list(tmp_path.glob("wh.before-*")) == []
    assert restore(tmp_path / "bk", warehouse, force=True).replaced is not None


def test_a_place_that_cannot_be_used_is_one_line(warehouse: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nothing"):
        shown = CliRunner().invoke(app, ["backup", str(target), "--warehouse", str(warehouse)])
        assert (shown.exit_code, shown.stderr.count("\n")) == (1, 1)
        assert f"{target} cannot be used for backups: " in " ".join(shown.stderr.split())
    (tmp_path / "link").symlink_to(warehouse)
    for target in (warehouse / "bk", tmp_path / "link" / "bk", warehouse):
        with pytest.raises(BackupError, match="the place of backups must lie outside of the warehouse"):
            backup(warehouse, target)
    assert not (warehouse / "bk").exists()


def test_what_is_replaced_while_it_is_copied_is_read_again(
    warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the guard does with its folder: a hidden one is filled, the old one removed, the new one renamed."""
    monkeypatch.setattr(backups, "PAUSE_S", 0)
    folder = warehouse / "guard" / "tiny-2026-01-02"
    for place in (folder, folder.with_name(".tiny-2026-01-02.1")):
        place.mkdir(parents=True)
        (place / "live_rules.parquet").write_text(place.name)
    real, times = backup_contents._frozen, []

    def vanishing(path: Path, copy: Path) -> Path:
        if path.name == "live_rules.parquet" and len(times) < often:
            times.append(path)
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return real(path, copy)

    monkeypatch.setattr(backup_contents, "_frozen", vanishing)
    often = 2
    assert backup(warehouse, tmp_path / "bk").faults == []
    assert times == [folder / "live_rules.parquet"] * 2
    names = {entry["path"] for entry in Store(tmp_path / "bk").manifest()["files"]}
    assert {name for name in names if name.startswith("guard")} == {"guard/tiny-2026-01-02/live_rules.parquet"}
    often = 100
    with pytest.raises(BackupError, match=r"live_rules.parquet vanished while it was copied, 5 times: run the backup"):
        backup(warehouse, tmp_path / "bk")


def test_a_damaged_manifest_of_another_backup_keeps_them_all_and_the_new_one_counts(
    warehouse: Path, tmp_path: Path
) -> None:
    first = tmp_path / "bk" / "backups" / f"{backup(warehouse, tmp_path / 'bk').backup_id}.json"
    first.write_bytes(b"\xff\xfe" + first.read_bytes())
    shown = CliRunner().invoke(app, ["backup", str(tmp_path / "bk"), "--keep", "1", "--warehouse", str(warehouse)])
    assert shown.exit_code == 1
    said = f"no earlier one was removed: backup {first.stem}: its manifest is not readable: remove {first} if nobody"
    assert said in shown.stderr
    assert len(Store(tmp_path / "bk").ids()) == 2
    event = operations_log.entries(warehouse)[-1]
    assert (event.kind, event.ok) == ("backup", True)
    first.unlink()
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "bk")]).exit_code == 0


def test_what_a_killed_backup_left_goes_with_the_clean_up(warehouse: Path, tmp_path: Path) -> None:
    """Its scratch lies in the warehouse's work/, which no backup takes and `gc` removes."""
    backup(warehouse, tmp_path / "bk")
    left = warehouse / "work" / "backup-killed"
    left.mkdir()
    (left / "decisions.jsonl").write_text("x")
    backup(warehouse, tmp_path / "bk")
    assert [path.name for path in (warehouse / "work").iterdir()] == ["backup-killed"]
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=30)
    rules = retention.load(Path("conf/retention.yml").resolve())
    seen = [item.path for item in retention.plan(warehouse, rules, later) if item.kind == "work"]
    assert left in seen


def test_a_link_to_an_empty_folder_is_restored_into(warehouse: Path, tmp_path: Path) -> None:
    """A folder on another disk, say."""
    backup(warehouse, tmp_path / "bk")
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    restore(tmp_path / "bk", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert tiny.read(tmp_path / "disk") == tiny.read(warehouse)
