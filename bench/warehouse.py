"""The warehouse by size: both dbt builds of the real night, marts over a hundred million scores, what readers wait.

`python -m bench.warehouse night` (or size, queries, publish) takes one part of the measurements; all write the table.
"""

import contextlib
import inspect
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb
import numpy as np
import psutil
import pyarrow.parquet as pq

from bench import score_rows
from bench.published import CONTRACT, published
from bench.report import ROOT, Measure, write
from jobs import cli, dbt_process, decide, facts, releases, warehouse
from jobs.lake import Lake
from jobs.release_audits import Audit

TITLE = "The warehouse"
NIGHTS, ENTITIES, TOP, ASKED, FLIPS = 3, 1_000_000, 10, 40, 20
BAR_NIGHT, BAR_SIZE, BAR_GIB, BAR_MS = 25, 120, 6, 150
GIB = 2**30


def main(parts=("night", "size", "queries", "publish")):
    with tempfile.TemporaryDirectory(prefix="fieldmart-bench-", dir=_scratch()) as scratch:
        bench = Bench(Path(scratch))
        measures = [measure for part in parts for measure in getattr(bench, part)()]
    pairs = ENTITIES * score_rows.CANDIDATES
    notes = (
        f"**Real night**: `dbt build` with all data tests on the facts of the last release, before the decision and "
        f"after it, with the start of dbt's process and the page of its documentation; median of {NIGHTS} after one "
        f"that is not counted. What dbt parsed is kept from night to night, so the first after a change of the code "
        f"takes longer. **{pairs:,} scores**: generated logits of {ENTITIES:,} entities × {score_rows.CANDIDATES} "
        f"candidates through the writers of the score job, the {TOP} best of each kept; everything else is of the real "
        f"night. The second build, then the release's Parquet files, its content hash and the questions of "
        f"`examples/bi.sql`. Memory: the peak of dbt's processes together. **Queries**: each of `examples/bi.sql`, and "
        f"each that the dashboard asks with the choices that a page opens with, {ASKED} times on an open read-only "
        f"connection until the rows are in Python; the slowest query of each set. Opening the file is counted apart, "
        f"and so is the first query of a new connection. **Publish**: a release of the real mart; seconds from the "
        f"flip of the pointer until a reader that looks it up every 5 ms has an answer of it, largest of {FLIPS}."
    )
    write("warehouse", TITLE, measures, notes)


def _scratch():
    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Bench:
    """The parts; they share the facts of the real night and the evidence marts built of them."""

    def __init__(self, scratch):
        self.scratch, self.found = scratch, published()
        self.mart = Path(self.found.mart)
        self.root = self.mart.parent.parent.parent
        known = json.loads((self.root / "cycles" / self.found.contract / f"{self.found.date}.json").read_text())
        lake = Lake(self.root)
        self.facts = {name: self._files(lake, name, known["datasets"].get(name)) for name in facts.FACTS}
        cycle = cli.cycle_of(CONTRACT, self.found.date, self.root)
        self.variables = decide.mart_variables(cycle)
        self.parsed = scratch / "parsed"
        self.evidence = None

    def _files(self, lake, name, key):
        """Files of the night's fact; an empty one where the night was run by code that did not know it yet."""
        dataset = lake.find(name, key) if key else None
        if dataset is not None:
            return dataset.files
        (self.scratch / "none").mkdir(exist_ok=True)
        path = self.scratch / "none" / f"{name}.parquet"
        pq.write_table(facts.table(name, []), path)
        return [str(path)]

    def _first_build(self, database):
        database.parent.mkdir(parents=True)
        files = {name: self.facts[name] for name in decide.EVIDENCE}
        warehouse.build(database, files, select=warehouse.EVIDENCE, variables=self.variables, parsed=self.parsed)

    def _second_build(self, database, files):
        rest = warehouse.EVIDENCE
        warehouse.build(database, files, exclude=rest, variables=self.variables, docs=True, parsed=self.parsed)

    def night(self):
        """Seconds of both builds."""
        walls = []
        for number in range(NIGHTS + 1):
            database = self.scratch / f"night-{number}" / "mart.duckdb"
            dbt_process.stop()  # a night starts it
            first = seconds(lambda database=database: self._first_build(database))
            if number == NIGHTS:
                self.evidence = shutil.copy(database, self.scratch / "evidence.duckdb")
            second = seconds(lambda database=database: self._second_build(database, self.facts))
            walls.append((first, second))
            if number:
                shutil.rmtree(database.parent)
        first, second = np.array(walls[1:]).T
        return [
            Measure.at_most("real night: both builds", statistics.median(first + second), "s", BAR_NIGHT),
            Measure("real night: build before the decision", statistics.median(first), "s"),
            Measure("real night: build after it", statistics.median(second), "s"),
            Measure("real night: both builds, nothing parsed before", sum(walls[0]), "s"),
        ]

    def size(self):
        """The second build and the files of a release over many scores."""
        if self.evidence is None:
            self._first_build(self.scratch / "evidence" / "mart.duckdb")
            self.evidence = self.scratch / "evidence" / "mart.duckdb"
        scores = self.scratch / "scores"
        files = self.facts | score_rows.write(scores, ENTITIES, TOP)
        database = self.scratch / "size" / "mart.duckdb"
        database.parent.mkdir()
        shutil.copy(self.evidence, database)
        with resident_peak() as peak:
            wall = seconds(lambda: self._second_build(database, files))
        marts = self.scratch / "size" / "marts"
        export = seconds(lambda: warehouse.export_marts(database, marts))
        content = seconds(lambda: warehouse.content_hash(database))
        name = f"{ENTITIES * score_rows.CANDIDATES:,} scores"
        found = [
            Measure.at_most(f"{name}: `dbt build` after the decision, with its tests", wall, "s", BAR_SIZE),
            Measure.at_most(f"{name}: peak memory of dbt", peak[0] / GIB, "GiB", BAR_GIB),
            Measure(f"{name}: all scores in Parquet", sum(map(os.path.getsize, files["scores"])) / GIB, "GiB"),
            Measure(f"{name}: mart.duckdb", database.stat().st_size / GIB, "GiB"),
            Measure(f"{name}: Parquet files of the marts", sum(p.stat().st_size for p in marts.iterdir()) / GIB, "GiB"),
            Measure(f"{name}: writing them", export, "s"),
            Measure(f"{name}: content hash", content, "s"),
            *slowest(f"{name}: examples/bi.sql", asked_of(database, bi_questions())),
        ]
        for folder in (scores, database.parent):
            shutil.rmtree(folder)
        return found

    def queries(self):
        """How long each question takes, on the marts as today's code builds them."""
        mart = self.scratch / "night-0" / "mart.duckdb"
        if not mart.exists():
            self._first_build(mart)
            self._second_build(mart, self.facts)
        cold = []
        for _ in range(ASKED):
            began = time.perf_counter()
            with duckdb.connect(str(mart), read_only=True) as con:
                opened = time.perf_counter()
                con.execute("select * from dim_release").fetchall()
                cold.append((opened - began, time.perf_counter() - opened))
        opening, first = np.quantile(1e3 * np.array(cold), 0.95, axis=0)
        return [
            *slowest("examples/bi.sql", asked_of(mart, bi_questions())),
            *slowest("dashboard", dashboard_queries(mart)),
            Measure("opening the mart, p95", opening, "ms"),
            Measure("first query of a new connection, p95", first, "ms"),
        ]

    def publish(self):
        """Seconds until a reader has an answer of a release that was just published."""
        root, flipped, seen, stop = self.scratch / "publish", {}, {}, threading.Event()
        root.mkdir()

        def read():
            while not stop.wait(0.005):
                release = releases.current(root)
                if release is None or release.release_id in seen:
                    continue
                with duckdb.connect(str(release.folder / releases.MART), read_only=True) as con:
                    con.execute("select * from dim_release").fetchall()
                seen[release.release_id] = time.perf_counter()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for number in range(FLIPS):
                building = releases.open_building(root, f"flip-{number:02d}")
                shutil.copy(self.mart, building.folder / releases.MART)
                (building.folder / releases.MART).chmod(0o644)
                manifest = {"contract": "flip", "content_sha256": str(number), "decision_id": "", "data_through": ""}
                audit = Audit("none", 0.0, "==", 0.0, True, "a copy of a release")
                release = releases.publish(root, building.release_id, manifest, [audit])
                flipped[release.release_id] = time.perf_counter()
                until = time.monotonic() + 10
                while release.release_id not in seen and time.monotonic() < until:
                    time.sleep(0.001)
        finally:
            stop.set()
            reader.join()
        late = max(max(0.0, seen[name] - at) for name, at in flipped.items())
        return [Measure.at_most("publish: from the flip to an answer of the new release, largest", late, "s", 1)]


def seconds(what):
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def bi_questions():
    """Name -> statement of examples/bi.sql."""
    parts = (ROOT / "examples" / "bi.sql").read_text(encoding="utf-8").split("-- name: ")[1:]
    return {name.strip(): text for name, _, text in (part.partition("\n") for part in parts)}


def p95_ms(ask):
    """95th percentile of ASKED calls, in milliseconds; two before them are not counted."""
    times = [seconds(ask) for _ in range(ASKED + 2)][2:]
    return 1e3 * float(np.quantile(times, 0.95))


def asked_of(mart, statements):
    """Name -> p95 in ms of each statement on an open connection."""
    with duckdb.connect(str(mart), read_only=True) as con:
        return {
            name: p95_ms(lambda statement=statement: con.execute(statement).fetchall())
            for name, statement in statements.items()
        }


def slowest(what, times):
    """The slowest query against the bar, and the median of all."""
    name = max(times, key=times.get)
    return [
        Measure.at_most(f"{what}: slowest of {len(times)} queries ({name}), p95", times[name], "ms", BAR_MS),
        Measure(f"{what}: median of the queries' p95", statistics.median(times.values()), "ms"),
    ]


CHOICES = {  # what a page asks with, by the name of the parameter
    "model_id": "select min(model_id) from fct_calibration_by_slice where is_verdict",
    "page": "select min(page) from fct_findings",
    "entity_id": "select min(entity_id) from fct_entity_scores",
    "baseline": "select min(baseline) from fct_value_sensitivity",
}


def dashboard_queries(mart):
    """Name -> p95 in ms of each query of dashboard/queries.py, uncached, while another connection holds the file open.
    Queries of marts without rows are left out."""
    sys.path.insert(0, str(ROOT / "dashboard"))
    import queries  # ty: ignore[import-not-found]

    queries._rows = queries._rows.__wrapped__
    with duckdb.connect(str(mart), read_only=True) as con:
        choices = {name: con.execute(sql).fetchall()[0][0] for name, sql in CHOICES.items()}
        found = {}
        for name, ask in inspect.getmembers(queries, inspect.isfunction):
            first, *others = inspect.signature(ask).parameters.values()
            if name.startswith("_") or first.name != "mart":
                continue
            chosen = [choices[parameter.name] for parameter in others if parameter.default is parameter.empty]
            with contextlib.suppress(queries.NoRelease):
                ask(str(mart), *chosen)
                found[name] = p95_ms(lambda ask=ask, chosen=chosen: ask(str(mart), *chosen))
    return found


@contextlib.contextmanager
def resident_peak():
    """A list whose one entry is, afterwards, the largest sum of resident bytes of all processes started meanwhile."""
    peak, stop, me = [0], threading.Event(), psutil.Process()

    def watch():
        while not stop.wait(0.1):
            total = 0
            for process in me.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
            peak[0] = max(peak[0], total)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or ("night", "size", "queries", "publish"))
