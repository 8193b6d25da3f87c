"""Readers while releases are published: no error, never two releases in one answer, a new one visible at once."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from release_reader import ANSWER, MARTS, duckdb_python, pointed

from jobs import releases, warehouse
from jobs.release_audits import Audit

GOOD = [Audit("lowest_p", 0.01, ">", 0.0, True, "a probability")]
ROWS = 200  # of every mart but dim_release, which has one; so the answer counts as many
VISIBLE = 1.0  # seconds from the flip to an answer of the new release, where a read takes no longer itself
READER = Path(__file__).with_name("release_reader.py")


def publish(root: Path, number: int, keep: int = releases.KEEP) -> releases.Release:
    """Release number `number`: a mart and its Parquet files, every table with the release's id."""
    building = releases.open_building(root, f"tiny-{number:03d}")
    database, folder = building.folder / "mart.duckdb", building.folder / "marts"
    folder.mkdir()
    with duckdb.connect(str(database), config={"storage_compatibility_version": warehouse.STORAGE}) as connection:
        release = f"'{building.release_id}' as release_id"
        connection.execute(f"create table dim_release as select {release}, 'tiny' as contract")
        for mart in ("fct_k", "fct_scores"):
            connection.execute(f"create table {mart} as select range as k, {number} as v, {release} from range({ROWS})")
        for mart in MARTS:
            connection.execute(f"copy {mart} to '{folder}/{mart}.parquet' (format parquet, compression zstd)")
    manifest = {"contract": "tiny", "data_through": "2017-12-18", "decision_id": "d1", "content_sha256": str(number)}
    return releases.publish(root, building.release_id, manifest, GOOD, keep)


@dataclass(frozen=True)
class Seen:
    """What a reader wrote down, and when each release became visible (Unix seconds after its publication)."""

    kind: str
    reads: list[dict]
    published: dict[str, float]

    @property
    def errors(self) -> list[str]:
        return [read["error"] for read in self.reads if "error" in read]

    @property
    def mixed(self) -> list[dict]:
        """Answers that are not wholly of the release that the pointer named."""
        whole = ([ROWS], 1)
        return [r for r in self.reads if (r["rows"], len(r["ids"])) != whole or r["ids"] != [r["pointed"]]]

    @property
    def outdated(self) -> list[dict]:
        """Answers to reads that began after a newer release had been published than they show."""
        return [read for read in self.reads if any(self.published[read["pointed"]] < at < read["began"]
                                                   for at in self.published.values())]  # fmt: skip

    def first_seen(self) -> dict[str, float]:
        """Seconds from each publication beside the reader that it read at all to the end of the first read of it."""
        first: dict[str, float] = {}
        for read in self.reads:
            at = self.published[read["pointed"]]
            if at > self.reads[0]["began"]:
                first.setdefault(read["pointed"], read["ended"] - at)
        return first


@contextmanager
def reading(root: Path, kinds: Sequence[str]) -> Generator[dict[str, Path]]:
    """Reader processes on the warehouse, each of which has read at least once; stopped at the end."""
    outs = {kind: root / f"{kind}.jsonl" for kind in kinds}
    paths = (str(READER.parent.parent), os.environ.get("PYTHONPATH"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    processes = [
        subprocess.Popen([sys.executable, str(READER), kind, str(root), str(out)], env=environment)
        for kind, out in outs.items()
    ]
    try:
        until = time.monotonic() + 120
        while not all(out.exists() and out.read_text().count("\n") for out in outs.values()):
            assert time.monotonic() < until, "a reader did not read for two minutes"
            assert all(process.poll() is None for process in processes), "a reader died"
            time.sleep(0.05)
        yield outs
        (root / "stop").touch()
        assert [process.wait(timeout=60) for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def publish_beside(root: Path, kinds: Sequence[str], times: int, pause: float) -> list[Seen]:
    """Publish `times` releases beside readers of these kinds; what each of them saw."""
    published = {}
    first = publish(root, 0).release_id
    published[first] = time.time()
    with reading(root, kinds) as outs:
        for number in range(1, times + 1):
            release = publish(root, number)
            published[release.release_id] = time.time()
            time.sleep(pause)
    found = {kind: [json.loads(line) for line in out.read_text().splitlines()] for kind, out in outs.items()}
    return [Seen(kind, reads, published) for kind, reads in found.items()]


def check(seen: Seen, last: str) -> None:
    assert seen.errors == [], seen.kind
    assert seen.mixed == [], seen.kind
    assert seen.outdated == [], seen.kind
    assert seen.reads[-1]["pointed"] == last, seen.kind


def test_a_reader_never_sees_mixed_releases_nor_an_error_while_nine_are_published(tmp_path: Path) -> None:
    # Nine and the first are ten; with seven kept, three were removed beside the readers.
    for seen in publish_beside(tmp_path, ("duckdb", "parquet", "cli", "sqlalchemy"), times=9, pause=0.15):
        check(seen, "tiny-009")
        assert len(seen.first_seen()) >= 3, seen.kind  # it did read beside the publications
    assert len(releases.list_releases(tmp_path)) == releases.KEEP


@pytest.mark.slow
def test_fifty_publications_beside_readers_of_every_kind(tmp_path: Path) -> None:
    kinds = ("duckdb", "parquet", "cli", "sqlalchemy", "spark")
    for seen in publish_beside(tmp_path, kinds, times=50, pause=0.4):
        check(seen, "tiny-050")
        first = seen.first_seen()
        assert len(first) >= 5, seen.kind
        usual, slowest = statistics.median(first.values()), max(first.values())
        told = (
            f"{len(seen.reads)} reads, {len(first)} releases seen, an answer after {usual:.2f} s, {slowest:.2f} at most"
        )
        print(f"{seen.kind}: {told}")
        if seen.kind != "spark":  # whose reads alone can take longer; none of them was outdated when it began
            assert usual <= VISIBLE, told


def test_a_release_that_is_pruned_while_it_is_read_is_read_to_the_end(tmp_path: Path) -> None:
    old = publish(tmp_path, 0)
    opened = duckdb.connect(str(old.folder / "mart.duckdb"), read_only=True)
    cursor = opened.execute("select release_id from fct_scores")
    assert cursor.fetchone() == (old.release_id,)
    for number in range(1, releases.KEEP + 1):
        publish(tmp_path, number)
    assert not old.folder.exists()
    # The open file is there until it is closed, for the query under way and for the next one.
    assert cursor.fetchall() == [(old.release_id,)] * (ROWS - 1)
    assert opened.execute(ANSWER).fetchall() == [(*[old.release_id] * 3, ROWS)]
    opened.close()


def test_between_pointer_and_open_there_is_room_for_all_publications_but_the_last_kept(tmp_path: Path) -> None:
    publish(tmp_path, 0)
    resolved = pointed(tmp_path)
    for number in range(1, releases.KEEP):
        publish(tmp_path, number)
        assert duckdb_python(resolved) == [(*["tiny-000"] * 3, ROWS)]
    publish(tmp_path, releases.KEEP)  # the seventh: seven newer ones are kept, and the resolved one is gone
    with pytest.raises(duckdb.IOException, match="does not exist"):
        duckdb_python(resolved)
    assert duckdb_python(pointed(tmp_path)) == [(*["tiny-007"] * 3, ROWS)]


def test_a_path_that_is_replaced_shows_old_rows_and_a_versioned_path_new_ones(tmp_path: Path) -> None:
    """Why a tool looks up the release's own folder: DuckDB keeps a file that it has open, whatever its path is now."""
    publish(tmp_path, 0)
    fixed = tmp_path / "always_here.duckdb"
    shutil.copy(pointed(tmp_path) / "mart.duckdb", fixed)
    with duckdb.connect(str(fixed), read_only=True) as held:
        publish(tmp_path, 1)
        shutil.copy(pointed(tmp_path) / "mart.duckdb", tmp_path / "next.duckdb")
        os.replace(tmp_path / "next.duckdb", fixed)
        with duckdb.connect(str(fixed), read_only=True) as again:
            assert again.execute("select release_id from dim_release").fetchall() == [("tiny-000",)]
        held.execute(f"attach '{pointed(tmp_path) / 'mart.duckdb'}' as newest (read_only)")
        assert held.execute("select release_id from newest.dim_release").fetchall() == [("tiny-001",)]
