"""The drill finds what a backup does not bring back; a rebuilt mart says what the damaged one said."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import fake_facts
import pytest
import tiny_warehouse as tiny
from typer.testing import CliRunner

from jobs import backup as backups
from jobs import decide, decision_log, drill, durable, operations_log, rebuild, releases, warehouse
from jobs.backup_store import BackupError
from jobs.cli import app, cycle_of
from jobs.cycle import Cycle
from jobs.lake import Lake, LakeError, sha256_file, write_json
from jobs.operations_log import Event
from jobs.restore import restore
from jobs.verification import verify_warehouse

CONTRACT = Path(__file__).resolve().parent.parent / "conf" / "promo.yml"


def test_a_drill_compares_every_mart_and_is_logged(tmp_path: Path) -> None:
    tiny.copy(tmp_path / "wh")
    shown = CliRunner().invoke(app, ["drill", "--warehouse", str(tmp_path / "wh")])
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert "hash_equal=true marts=4" in lines  # two releases of two marts
    event = operations_log.entries(tmp_path / "wh")[-1]
    assert (event.kind, event.ok) == ("drill", True)
    assert [event.kind for event in operations_log.entries(tmp_path / "wh")] == ["drill"]  # its own backup is gone
    assert f"rto_s={event.seconds:.3f} rpo_s={event.rpo_s:.3f}" in lines[-1]
    assert [path.name for path in tmp_path.iterdir() if ".drill" in path.name] == []


def test_a_drill_names_what_did_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup without the models of the log, and with an older mart under the same name."""
    tiny.copy(tmp_path / "wh")
    real = drill.restore

    def worse(source: Path, target: Path, **more: Any) -> Any:
        done = real(source, target, **more)
        mart = target / "releases" / "tiny-2026-01-02" / "mart.duckdb"
        mart.unlink()
        shutil.copy(target / "releases" / "tiny-2026-01-01" / "mart.duckdb", mart)
        return done

    monkeypatch.setattr(drill, "restore", worse)
    shown = CliRunner().invoke(app, ["drill", "--warehouse", str(tmp_path / "wh")])
    assert shown.exit_code == 1
    assert "hash_equal=false marts=4" in shown.stdout
    told = shown.stderr.splitlines()
    assert "fieldmart: tiny-2026-01-02/fct_k differs" in told
    assert any("release tiny-2026-01-02: mart.duckdb was changed" in line for line in told)
    assert not operations_log.entries(tmp_path / "wh")[-1].ok


@pytest.mark.parametrize("night", ["01", "02"])
@pytest.mark.parametrize("how", ["cut", "other bytes"])
def test_a_damaged_mart_is_a_fault_of_the_drill_and_logged(tmp_path: Path, night: str, how: str) -> None:
    root = tiny.copy(tmp_path / "wh")
    mart = root / "releases" / f"tiny-2026-01-{night}" / "mart.duckdb"
    mart.chmod(0o644)
    mart.write_bytes(b"x" * 4_000 if how == "other bytes" else mart.read_bytes()[:-4_000])
    shown = CliRunner().invoke(app, ["drill", "--warehouse", str(root)])
    assert (shown.exit_code, type(shown.exception)) == (1, SystemExit)
    assert f"{mart} was changed after writing" in shown.stderr
    if night == "02":
        assert "fieldmart: the restored mart does not answer" in shown.stderr
    event = operations_log.entries(root)[-1]
    assert (event.kind, event.ok) == ("drill", False)


def test_a_drill_that_cannot_be_held_is_logged_and_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    root = tiny.copy(tmp_path / "wh")
    for name in (".wh.drill-killed", ".other.drill-running"):
        (tmp_path / name / "restored").mkdir(parents=True)
    decision_log.path_of(root).unlink()
    with pytest.raises(BackupError, match="entries of the decision log were lost"):
        drill.drill(root)
    event = operations_log.entries(root)[-1]
    assert (event.kind, event.ok) == ("drill", False)
    assert [path.name for path in tmp_path.iterdir() if ".drill" in path.name] == [".other.drill-running"]
    with (
        durable.held(root / ".drill.lock", note="process 1"),
        pytest.raises(drill.DrillError, match=r"another drill of .*wh is held \(process 1\): wait for it"),
    ):
        drill.drill(root)


def test_everything_deleted_comes_back_with_the_same_rows(tmp_path: Path) -> None:
    root = tiny.copy(tmp_path / "wh")
    backups.backup(root, tmp_path / "bk")
    before = drill.hashes(root)
    shutil.rmtree(root)
    restore(tmp_path / "bk", root)
    assert drill.hashes(root) == before
    assert len(before) == 4
    assert drill.answer(root) == "tiny-2026-01-02"


def test_the_hash_of_a_mart_counts_rows_and_not_their_order(tmp_path: Path) -> None:
    root = tiny.copy(tmp_path / "wh")
    before = drill.hashes(root)
    for change, is_same in (("order by k desc", True), ("where k > 0", False), ("union all select 0, 1", False)):
        mart = tmp_path / "mart.duckdb"
        mart.unlink(missing_ok=True)
        shutil.copy(root / "releases" / "tiny-2026-01-02" / "mart.duckdb", mart)
        mart.chmod(0o644)
        with duckdb.connect(str(mart)) as connection:
            connection.execute(f"create or replace table fct_k as select * from (select * from fct_k) {change}")
        release = releases.Release("x", tmp_path, {}, True)
        assert (drill.of_release(release)["fct_k"] == before["tiny-2026-01-02/fct_k"]) is is_same


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (10.0, None),  # the first: nothing to compare with
        (13.0, 0.3),  # median 10: 30 % more
        (10.9, 0.0),  # less than a second more is noise
        (5.0, 0.0),
    ],
)
def test_a_recovery_is_held_against_the_median_of_earlier_drills(seconds: float, expected: float | None) -> None:
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).isoformat()
    earlier = [Event(at, "drill", True, each) for each in (9.0, 10.0, 30.0)] if expected is not None else []
    earlier += [Event(at, "drill", False, 1.0), Event(at, "restore", True, 1.0)]  # these do not count
    found = drill.slower_by(seconds, earlier)
    assert found == pytest.approx(expected) if expected is not None else found is None


def test_no_release_no_drill(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(drill.DrillError, match="has no release to compare: run the nightly first"):
        drill.drill(tmp_path)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The marts of all fake facts as a release whose data sets lie in the lake; the damaged one of the tests."""
    root = tmp_path_factory.mktemp("rebuilt") / "wh"
    lake, keys, files = Lake(root), {}, {}
    for name, rows in (fake_facts.evidence() | fake_facts.night()).items():
        keys[name] = "k"
        files[name] = lake.write_fact(name, "k", rows).files
    [told] = fake_facts.night()["release"]
    date, contract = told["cycle_date"], told["contract"]
    write_json(root / "cycles" / contract / f"{date}.json", {"datasets": keys, "stages": {}, "run": {}})
    building = releases.open_building(root, told["release_id"])
    mart = building.folder / releases.MART
    warehouse.build(mart, {n: f for n, f in files.items() if n in decide.EVIDENCE}, select=warehouse.EVIDENCE)
    warehouse.build(mart, files, exclude=warehouse.EVIDENCE)
    warehouse.export_marts(mart, mart.parent / "marts")
    manifest = {
        "contract": contract,
        "cycle_date": str(date),
        "content_sha256": warehouse.content_hash(mart),
        "decision_id": "d",
        "data_through": str(date),
        "datasets": json.dumps(keys),
    }
    releases.publish(root, building.release_id, manifest, tiny.GOOD)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["a bit", "a parquet file"])
def test_a_damaged_mart_is_rebuilt_from_facts_and_says_the_same(published: Path, damage: str) -> None:
    release = releases.current(published)
    assert release is not None
    before = drill.hashes(published)
    path = release.folder / ("marts/dim_model.parquet" if damage == "a parquet file" else releases.MART)
    data = bytearray(path.read_bytes())
    path.chmod(0o644)
    if damage == "a bit":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(data[:-100])
    cycle = _cycle(published, release)
    done = rebuild.rebuild(cycle, release)
    assert done.replaced == [path.relative_to(release.folder).as_posix()]
    assert drill.hashes(published) == before
    again = releases.current(published)
    assert again is not None
    assert releases.damage(again) is None
    assert path.stat().st_mode & 0o777 == 0o444
    assert rebuild.rebuild(cycle, again).replaced == []  # nothing is damaged any more
    assert [path.name for path in (published / "releases").iterdir() if "rebuilding" in path.name] == []
    event = operations_log.entries(published)[-1]
    assert (event.kind, event.ok) == ("rebuild", True)


def test_a_file_with_other_bytes_each_time_is_whole_again_once_it_is_rebuilt(tmp_path: Path) -> None:
    """Of dbt's page alone, with a mart that is whole: the manifest follows what is new."""
    root = tiny.copy(tmp_path / "wh")
    release = releases.named(root, "tiny-2026-01-02")
    before = release.manifest["files"][releases.MART]
    page = release.folder / "docs" / "index.html"
    page.parent.mkdir()
    page.write_text("was")
    entry = {"bytes": 3, "sha256": "of what it was"}
    manifest = release.folder / "manifest.json"
    manifest.chmod(0o644)
    told = release.manifest | {"files": release.manifest["files"] | {"docs/index.html": entry}}
    write_json(manifest, told)
    built = tmp_path / "built"
    (built / "docs").mkdir(parents=True)
    (built / "docs" / "index.html").write_text("made at another hour")
    shutil.copy(release.folder / releases.MART, built)
    release = releases.named(root, "tiny-2026-01-02")
    assert [name for name, _ in releases.damages(release)] == ["docs/index.html"]
    rebuild.replace(release, built, ["docs/index.html"])
    again = releases.named(root, "tiny-2026-01-02")
    assert releases.damage(again) is None
    assert again.manifest["files"][releases.MART] == before
    assert [made["files"] for made in again.manifest["rebuilt"]] == [["docs/index.html"]]


@pytest.mark.slow
def test_the_release_of_a_real_night_is_rebuilt_after_its_mart_was_cut(own_night: Any) -> None:
    root, release = own_night.cycle.warehouse, own_night.release
    before = drill.hashes(root)
    mart = releases.named(root, release.release_id).folder / releases.MART
    mart.chmod(0o644)
    mart.write_bytes(mart.read_bytes()[:-5_000])
    done = rebuild.rebuild(own_night.cycle, releases.named(root, release.release_id))
    assert done.replaced == [releases.MART]
    assert drill.hashes(root) == before
    assert verify_warehouse(root).faults == []


@pytest.mark.slow
def test_what_would_say_something_else_is_never_put_in_place(published: Path) -> None:
    release = releases.current(published)
    assert release is not None
    mart, manifest = release.folder / releases.MART, release.folder / "manifest.json"
    told, sha256, faults = manifest.read_bytes(), sha256_file(mart), verify_warehouse(published).faults
    manifest.chmod(0o644)
    try:
        write_json(manifest, json.loads(told) | {"content_sha256": "of other rows"})
        changed = releases.current(published)
        assert changed is not None
        with pytest.raises(rebuild.RebuildError, match="cannot be rebuilt as it was: the marts would differ"):
            rebuild.rebuild(_cycle(published, changed), changed, force=True)
        gone = json.loads(told) | {"datasets": json.dumps({"runs": "nowhere"})}
        write_json(manifest, gone)
        changed = releases.current(published)
        assert changed is not None
        with pytest.raises(LakeError, match=r"facts of release .* are gone from the lake: runs nowhere"):
            rebuild.rebuild(_cycle(published, changed), changed, force=True)
    finally:
        manifest.unlink()
        manifest.write_bytes(told)
        manifest.chmod(0o444)
    assert sha256_file(mart) == sha256
    assert verify_warehouse(published).faults == faults
    assert all(fault.startswith("model ") for fault in faults), faults  # the invented facts name invented models


def _cycle(root: Path, release: releases.Release) -> Cycle:
    """The command would refuse the contract's file: these facts are of one that has none."""
    found = cycle_of(CONTRACT, str(release.manifest["cycle_date"]), root)
    found.contract = found.contract.model_copy(update={"name": release.manifest["contract"]})
    return Cycle(found.contract, found.date, found.warehouse, found.progress)
