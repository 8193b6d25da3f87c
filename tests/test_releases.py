"""Publication: whatever fails, a reader sees one whole release, the last or the new one; a rollback is one flip."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from jobs import decision_log, rebuild, releases
from jobs.release_audits import Audit

GOOD = [Audit("lowest_p", 0.01, ">", 0.0, True, "a probability")]
MANIFEST = {"contract": "promo", "data_through": "2017-12-18", "decision_id": "d1"}
BAD = [
    *GOOD,
    Audit("empty_marts", 2.0, "==", 0.0, False, "fct_a, fct_b have no rows"),
    Audit("highest_p", None, "<", 1.0, False, "a probability"),
]


def make_mart(path: Path, release_id: str, value: int) -> None:
    """Two marts that carry the release id, one of dbt's views and one of its seeds."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"create table dim_release as select '{release_id}' as release_id, 'promo' as contract")
        connection.execute(
            f"create table fct_k as select range as k, {value} as v, '{release_id}' as release_id from range(50)"
        )
        connection.execute("create schema staging; create view staging.stg_k as select 1 as machine_path")
        connection.execute("create table staging.seed_k as select 1 as k")


def build(warehouse: Path, release_id: str, value: int) -> str:
    """A finished build waiting for publication; returns the id it got."""
    building = releases.open_building(warehouse, release_id)
    make_mart(building.folder / "mart.duckdb", building.release_id, value)
    (building.folder / "marts").mkdir()
    (building.folder / "marts" / "fct_k.parquet").write_bytes(b"rows")
    (building.folder / "dbt").mkdir()
    (building.folder / "dbt" / "manifest.json").write_text("{}")
    return building.release_id


def publish_built(warehouse: Path, release_id: str, value: int, **more: Any) -> releases.Release:
    manifest = {name: more.pop(name, default) for name, default in MANIFEST.items()}
    manifest |= {name: more.pop(name) for name in ("serving_model_id",) if name in more}
    audits = more.pop("audits", GOOD)
    return releases.publish(warehouse, release_id, manifest | {"content_sha256": f"sha of {value}"}, audits, **more)


@pytest.fixture
def publish(tmp_path: Path) -> Any:
    """Build release `release_id` saying `value` in the test's warehouse and publish it."""
    return lambda release_id, value, **more: publish_built(tmp_path, build(tmp_path, release_id, value), value, **more)


def read(warehouse: Path) -> tuple[str, int]:
    """What a reader without any of our code sees: (release id, value); fails if the release is mixed."""
    pointer = json.loads((warehouse / "current.json").read_text())
    mart = warehouse / pointer["path"] / "mart.duckdb"
    with duckdb.connect(str(mart), read_only=True) as connection:
        found = connection.execute(
            "select release_id, v, count(*) from fct_k join dim_release using (release_id) group by all"
        ).fetchall()
    assert [(row[0], row[2]) for row in found] == [(pointer["release_id"], 50)]
    return pointer["release_id"], found[0][1]


def log(warehouse: Path) -> list[tuple[str, str, str | None]]:
    entries = decision_log.entries(warehouse)
    return [(entry.kind, entry.payload["release_id"], entry.payload["previous"]) for entry in entries]


def test_a_published_release_is_whole_read_only_and_logged(tmp_path: Path, publish: Any) -> None:
    assert releases.current(tmp_path) is None
    release = publish("promo-2017-12-18", 1)
    assert release == releases.current(tmp_path)
    assert read(tmp_path) == ("promo-2017-12-18", 1)
    assert (tmp_path / "current").resolve() == release.folder
    assert log(tmp_path) == [("publish", "promo-2017-12-18", None)]

    manifest = json.loads((release.folder / "manifest.json").read_text())
    assert manifest["release_id"] == "promo-2017-12-18"
    assert manifest["decision_id"] == "d1"
    assert manifest["data_through"] == "2017-12-18"
    assert manifest["content_sha256"] == "sha of 1"
    assert manifest["audits"] == [
        {"name": "lowest_p", "value": 0.01, "operator": ">", "threshold": 0.0, "passed": True, "why": "a probability"}
    ]
    assert sorted(manifest["files"]) == ["mart.duckdb", "marts/fct_k.parquet"]
    assert manifest["files"]["marts/fct_k.parquet"] == {
        "bytes": 4,
        "sha256": hashlib.sha256(b"rows").hexdigest(),
    }
    modes = {path.name: path.stat().st_mode & 0o777 for path in release.folder.rglob("*") if path.is_file()}
    assert modes == {"mart.duckdb": 0o444, "fct_k.parquet": 0o444, "manifest.json": 0o444}


def test_a_release_holds_nothing_but_marts(tmp_path: Path, publish: Any) -> None:
    """dbt's views and artifacts tell of facts under this machine's paths; a release stands alone."""
    release = publish("a", 1)
    with duckdb.connect(str(release.folder / "mart.duckdb"), read_only=True) as connection:
        found = connection.execute(
            "select table_schema, table_type, count(*) from information_schema.tables group by all"
        ).fetchall()
    assert found == [("main", "BASE TABLE", 2)]
    assert not (release.folder / "dbt").exists()


def test_a_warehouse_can_be_moved(tmp_path: Path, publish: Any) -> None:
    publish("a", 1)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("releases", "current.json", "current", "log"):
        (tmp_path / name).rename(moved / name)
    assert read(moved) == ("a", 1)
    assert (moved / "current" / "mart.duckdb").is_file()


def test_a_failed_audit_changes_nothing_but_sets_the_build_aside(tmp_path: Path, publish: Any) -> None:
    publish("a", 1)
    message = (
        r"release b is not published, 2 of 3 audits failed: empty_marts: 2, must be == 0 \(fct_a, fct_b have no rows\);"
        r" highest_p: no value, must be < 1 \(a probability\)"
    )
    with pytest.raises(releases.AuditError, match=message):
        publish("b", 2, audits=BAD)
    assert read(tmp_path) == ("a", 1)
    assert log(tmp_path) == [("publish", "a", None)]
    assert [release.release_id for release in releases.list_releases(tmp_path)] == ["a"]
    failed = tmp_path / "releases" / ".failed-b"
    assert [audit["passed"] for audit in json.loads((failed / "audits.json").read_text())] == [True, False, False]
    assert (failed / "mart.duckdb").is_file()

    with pytest.raises(releases.AuditError, match="release c is not published"):
        publish("c", 3, audits=BAD)
    assert not failed.exists()  # the last refused build is enough
    assert publish("b", 2).release_id == "b"  # a refused id is not used up


def test_an_unaudited_or_unbuilt_release_is_refused(tmp_path: Path, publish: Any) -> None:
    with pytest.raises(ValueError, match="audits must not be empty"):
        publish("a", 1, audits=[])
    releases.open_building(tmp_path, "b")
    with pytest.raises(releases.ReleaseError, match=r"release b: .*mart.duckdb does not exist, build it first"):
        releases.publish(tmp_path, "b", MANIFEST | {"content_sha256": "x"}, GOOD)
    with pytest.raises(ValueError, match=r"manifest must name content_sha256, got \['contract', 'data_through', 'dec"):
        releases.publish(tmp_path, "b", MANIFEST, GOOD)
    assert releases.current(tmp_path) is None


@pytest.mark.parametrize("release_id", ["../a", ".hidden", "a b", ""])
def test_an_id_that_is_no_folder_name_is_refused(tmp_path: Path, release_id: str) -> None:
    with pytest.raises(ValueError, match="release_id must be letters, digits"):
        releases.open_building(tmp_path, release_id)


def test_an_unfinished_build_is_started_afresh(tmp_path: Path) -> None:
    (releases.open_building(tmp_path, "a").folder / "mart.duckdb").write_text("half")
    assert list(releases.open_building(tmp_path, "a").folder.iterdir()) == []


def test_the_same_content_again_is_the_same_release(tmp_path: Path, publish: Any) -> None:
    first = publish("a", 1)
    before = (tmp_path / "current.json").stat().st_mtime_ns
    again = publish("a", 1)  # built as a-2: its rows differ in nothing but the release id
    assert again == first
    assert (tmp_path / "current.json").stat().st_mtime_ns == before
    assert log(tmp_path) == [("publish", "a", None)]
    assert sorted(path.name for path in (tmp_path / "releases").iterdir()) == [".lock", "a"]


def test_other_content_under_a_taken_id_gets_the_next_suffix(tmp_path: Path, publish: Any) -> None:
    assert [publish("a", value).release_id for value in (1, 2, 3)] == ["a", "a-2", "a-3"]
    assert read(tmp_path) == ("a-3", 3)
    assert publish("a", 2).release_id == "a-2"  # known content: a flip
    assert read(tmp_path) == ("a-2", 2)
    assert log(tmp_path)[-1] == ("publish", "a-2", "a-3")


def test_an_id_is_never_given_twice_even_when_its_release_is_gone(tmp_path: Path, publish: Any) -> None:
    publish("a", 1)
    publish("b", 2)
    publish("c", 3, keep=1)
    assert [release.release_id for release in releases.list_releases(tmp_path)] == ["b", "c"]
    assert publish("a", 4).release_id == "a-2"


def test_equal_content_of_another_contract_or_decision_is_another_release(tmp_path: Path, publish: Any) -> None:
    """Marts of decisions are no content, but a page must not show the decision before."""
    publish("a", 1)
    assert publish("b", 1, contract="benchmark").release_id == "b"
    assert publish("a", 1, decision_id="d2").release_id == "a-2"


def test_a_damaged_twin_is_not_pointed_at(tmp_path: Path, publish: Any) -> None:
    damaged = publish("a", 1).folder / "marts" / "fct_k.parquet"
    damaged.chmod(0o644)
    damaged.write_bytes(b"Rows")
    assert publish("a", 1).release_id == "a-2"


def test_the_last_releases_of_a_contract_are_kept_and_the_current_one_always(tmp_path: Path, publish: Any) -> None:
    publish("other", 0, contract="benchmark")
    for value in range(1, 6):
        publish(f"r{value}", value, keep=3)
    assert [release.release_id for release in releases.list_releases(tmp_path)] == ["other", "r3", "r4", "r5"]
    publish("r3", 3, keep=1)  # flips to the oldest, which therefore stays
    assert [release.release_id for release in releases.list_releases(tmp_path)] == ["other", "r5", "r3"]
    assert read(tmp_path) == ("r3", 3)


def test_bad_nights_in_a_row_never_take_the_last_good_release(tmp_path: Path, publish: Any) -> None:
    """The good one stays. When the seventh bad one is published, the three left before it do, and it is left then."""
    publish("good", 0, keep=3, serving_model_id="a")
    for night in range(1, 8):
        bad = publish(f"bad{night}", night, keep=3, serving_model_id="b").release_id
        releases.leave(tmp_path, bad, "good", {"contract": "promo", "demotes": None, "breaches": []})
    assert [release.release_id for release in releases.list_releases(tmp_path)] == [
        "good",
        *(f"bad{n}" for n in range(4, 8)),
    ]
    assert read(tmp_path) == ("good", 0)


def test_the_last_release_of_another_model_stays(tmp_path: Path, publish: Any) -> None:
    """A model may prove bad weeks after it went live."""
    publish("a1", 1, keep=2, serving_model_id="a")
    publish("a2", 2, keep=2, serving_model_id="a")
    for night in range(3, 8):
        publish(f"b{night}", night, keep=2, serving_model_id="b")
    assert [release.release_id for release in releases.list_releases(tmp_path)] == ["a2", "b6", "b7"]


def test_rollback_goes_one_back_each_time_within_the_contract(tmp_path: Path, publish: Any) -> None:
    for value, release_id in enumerate(["a", "b", "c"], start=1):
        publish(release_id, value)
        publish(f"other-{release_id}", value, contract="benchmark")
    publish("c", 3)
    assert releases.rollback(tmp_path).release_id == "b"
    assert read(tmp_path) == ("b", 2)
    assert releases.rollback(tmp_path).release_id == "a"
    assert (tmp_path / "current").resolve().name == "a"
    assert log(tmp_path)[-2:] == [("rollback", "b", "c"), ("rollback", "a", "b")]
    with pytest.raises(releases.ReleaseError, match=r"nothing to roll back to before a of promo \(releases: a, "):
        releases.rollback(tmp_path)
    assert releases.rollback(tmp_path, to="c").is_current
    assert read(tmp_path) == ("c", 3)


def test_rollback_to_nowhere_is_refused(tmp_path: Path, publish: Any) -> None:
    with pytest.raises(releases.ReleaseError, match=r"nothing to roll back: no release is current \(releases: none\)"):
        releases.rollback(tmp_path)
    publish("a", 1)
    with pytest.raises(releases.ReleaseError, match=r"no release 'z' \(releases: a\)"):
        releases.rollback(tmp_path, to="z")


@pytest.mark.parametrize("damage", ["is missing", "was changed after publication"])
def test_rollback_never_points_at_a_damaged_release(tmp_path: Path, publish: Any, damage: str) -> None:
    mart = publish("a", 1).folder / "mart.duckdb"
    publish("b", 2)
    mart.chmod(0o644)
    mart.unlink() if damage == "is missing" else mart.write_bytes(mart.read_bytes() + b"x")
    with pytest.raises(
        releases.ReleaseError, match=f"release a is damaged, the current one stays: mart.duckdb {damage}"
    ):
        releases.rollback(tmp_path)
    assert read(tmp_path) == ("b", 2)


def test_a_publication_that_died_before_the_log_is_finished_and_any_other_left_alone(
    tmp_path: Path, publish: Any
) -> None:
    publish("a", 1)
    publish("b", 2)
    lines = decision_log.path_of(tmp_path).read_text().splitlines(keepends=True)
    decision_log.path_of(tmp_path).write_text(lines[0])  # as if b had only been renamed into place
    assert releases.last_pointed(tmp_path, "promo") == "a"
    assert releases.finish(tmp_path, "b").is_current
    assert log(tmp_path) == [("publish", "a", None), ("publish", "b", "a")]
    releases.rollback(tmp_path)
    assert not releases.finish(tmp_path, "b").is_current
    assert read(tmp_path) == ("a", 1)
    assert (releases.last_pointed(tmp_path, "promo"), releases.last_pointed(tmp_path, "other")) == ("a", None)
    with pytest.raises(releases.ReleaseError, match=r"no release 'c' \(releases: a, b\)"):
        releases.finish(tmp_path, "c")


def test_the_pointer_is_rebuilt_from_the_log(tmp_path: Path, publish: Any) -> None:
    with pytest.raises(releases.ReleaseError, match="the decision log names no published release"):
        releases.rebuild_pointer(tmp_path)
    publish("a", 1)
    publish("b", 2)
    releases.rollback(tmp_path)
    before = (tmp_path / "current.json").read_bytes()
    (tmp_path / "current.json").unlink()
    (tmp_path / "current").unlink()
    assert releases.rebuild_pointer(tmp_path).release_id == "a"
    assert (tmp_path / "current.json").read_bytes() == before
    assert (tmp_path / "current").resolve().name == "a"


@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_a_current_release_that_cannot_be_read_is_named_and_can_be_left(
    tmp_path: Path, publish: Any, damage: str
) -> None:
    publish("a", 1)
    folder = publish("b", 2).folder
    if damage == "gone":
        shutil.rmtree(folder)
    else:
        (folder / "manifest.json").chmod(0o644)
        (folder / "manifest.json").write_text('{"release_id"')
    with pytest.raises(releases.ReleaseError, match=r"release b has no readable manifest in .*: roll back to anoth"):
        releases.current(tmp_path)
    with pytest.raises(releases.ReleaseError, match=r"no release is current \(releases: a\)"):
        releases.rollback(tmp_path)
    releases.rollback(tmp_path, to="a")
    assert read(tmp_path) == ("a", 1)


class Killed(BaseException):
    """The process died: no handler of ours may catch this."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Die just before the `step`-th call, counted from now, that changes the disk."""
    counter = itertools.count(1)

    def dying(call: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if next(counter) == step:
                raise Killed
            return call(*args, **kwargs)

        return wrapped

    for name in ("rename", "replace", "symlink", "unlink", "rmdir", "mkdir", "chmod", "fsync"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))


def is_killed(monkeypatch: pytest.MonkeyPatch, step: int, act: Any) -> bool:
    with monkeypatch.context() as patch:
        kill_at(patch, step)
        try:
            act()
        except Killed:
            return True
    return False


def test_death_at_any_step_of_publishing_leaves_a_whole_release_and_a_rerun_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start"
    for value, release_id in enumerate(["old", "a"]):
        publish_built(start, build(start, release_id, value), value)
    build(start, "b", 2)

    seen = []
    for step in itertools.count(1):
        warehouse = tmp_path / str(step)
        shutil.copytree(start, warehouse, symlinks=True)
        killed = is_killed(monkeypatch, step, functools.partial(publish_built, warehouse, "b", 2, keep=2))
        seen.append(read(warehouse))
        decision_log.verify(warehouse)

        again = releases.open_building(warehouse, "b").release_id
        shutil.copytree(
            start / "releases" / ".building-b", warehouse / "releases" / f".building-{again}", dirs_exist_ok=True
        )
        publish_built(warehouse, again, 2, keep=2)
        assert read(warehouse) == ("b", 2)
        assert (warehouse / "current").resolve().name == "b"
        assert log(warehouse)[-1] == ("publish", "b", "a")
        assert [release.release_id for release in releases.list_releases(warehouse)] == ["a", "b"]
        if not killed:
            break
    assert step > 20
    assert seen == sorted(seen)  # the old release up to one step, the new one from there on
    assert set(seen) == {("a", 1), ("b", 2)}


def test_death_at_any_step_of_a_rollback_leaves_a_whole_release(
    tmp_path: Path, publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("a", 1)
    publish("b", 2)
    for step in itertools.count(1):
        killed = is_killed(monkeypatch, step, lambda: releases.rollback(tmp_path, to="a"))
        assert read(tmp_path) in (("a", 1), ("b", 2))
        releases.rollback(tmp_path, to="a")
        assert read(tmp_path) == ("a", 1)
        assert log(tmp_path)[-1][:2] == ("rollback", "a")
        releases.rollback(tmp_path, to="b")
        if not killed:
            break
    assert step > 4


READER = """
import json, sys, time
from pathlib import Path
import duckdb
warehouse = Path(sys.argv[1])
seen, reads = [], 0
print("ready", flush=True)
while not (warehouse / "stop").exists() or reads == 0:
    pointer = json.loads((warehouse / "current.json").read_text())
    for folder in (warehouse / pointer["path"], (warehouse / "current").resolve()):
        with duckdb.connect(str(folder / "mart.duckdb"), read_only=True) as connection:
            ids = {row[0] for table in ("dim_release", "fct_k")
                   for row in connection.execute(f"select distinct release_id from {table}").fetchall()}
        assert ids == {folder.name}, (ids, folder)
        assert json.loads((folder / "manifest.json").read_text())["release_id"] == folder.name
    reads += 1
    if pointer["release_id"] not in seen:
        seen.append(pointer["release_id"])
print(json.dumps({"reads": reads, "seen": seen}))
"""


def test_a_reader_in_another_process_sees_only_whole_releases_during_twenty_publishes(
    tmp_path: Path, publish: Any
) -> None:
    publish("r00", 0)
    command = [sys.executable, "-c", READER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for number in range(1, 21):
            publish(f"r{number:02d}", number, keep=15)
        (tmp_path / "stop").touch()
        output, errors = reader.communicate(timeout=60)
    assert (reader.returncode, errors) == (0, "")
    found = json.loads(output)
    assert found["reads"] > 1
    assert found["seen"] == sorted(found["seen"])  # never back to an older one
    assert len(found["seen"]) > 1


def test_the_order_of_releases_is_that_of_the_log_whatever_the_clock_says(
    tmp_path: Path, publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Behind(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            return dt.datetime.now(tz) - dt.timedelta(days=1)

    publish("a", 1)
    monkeypatch.setattr(releases, "dt", SimpleNamespace(datetime=Behind, UTC=dt.UTC, date=dt.date))
    publish("b", 2)
    first, second = releases.list_releases(tmp_path)
    assert second.manifest["published_at"] < first.manifest["published_at"]
    assert (first.release_id, second.release_id) == ("a", "b")
    assert releases.rollback(tmp_path).release_id == "a"


def test_a_release_from_before_manifests_said_their_place_in_the_log_is_placed_by_the_clock(
    tmp_path: Path, publish: Any
) -> None:
    for value, release_id in enumerate("abc"):
        publish(release_id, value)
    manifest = tmp_path / "releases" / "b" / "manifest.json"
    said = json.loads(manifest.read_text())
    manifest.chmod(0o644)
    for known in ({}, {"log_entries": said.pop("log_entries")}):  # sealed when the log had one entry: that of a
        manifest.write_text(json.dumps(said | known))
        release = releases.named(tmp_path, "b")
        assert releases._sealed_after(release, decision_log.entries(tmp_path)) == 1


def test_a_release_that_was_removed_meanwhile_is_not_half_rebuilt(tmp_path: Path, publish: Any) -> None:
    """A publication removes old releases without waiting for a rebuild."""
    release = publish("a", 1)
    made = tmp_path / "made"
    made.mkdir()
    make_mart(made / "mart.duckdb", "a", 1)
    shutil.rmtree(release.folder)
    with pytest.raises(rebuild.RebuildError, match="release a was removed while it was rebuilt"):
        rebuild.replace(release, made, ["mart.duckdb"])
    assert not release.folder.exists()
