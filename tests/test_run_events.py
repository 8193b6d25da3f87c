"""The log that machines read: a line and an OpenLineage event for the start and the end of every stage of a night."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs import run_events
from jobs.contract import load
from jobs.cycle import Cycle
from jobs.lake import LakeError
from jobs.progress import Progress

CONF = Path(__file__).parent.parent / "conf"
DAY = dt.date(2017, 12, 25)


def made(folder: Path) -> tuple[Cycle, io.StringIO]:
    out = io.StringIO()
    return Cycle(load(CONF / "promo.yml"), DAY, folder, Progress(Console(file=out, width=500))), out


def write(folder: Path) -> None:
    pq.write_table(pa.table({"user": ["a", "b"], "n": [1, 2]}), folder / "part-0.parquet")


def lines(folder: Path, kind: str) -> list[dict]:
    [path] = (folder / "log" / kind).glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_steps_of_one_night_share_an_id_and_the_next_night_has_its_own(tmp_path: Path) -> None:
    with made(tmp_path)[0].stage("ingest") as stage:
        stage.rows = 7
    with made(tmp_path)[0].stage("encode") as stage:  # another process: a new cycle object
        stage.reused = True
    with pytest.raises(ValueError, match="two"), made(tmp_path)[0].stage("train"):
        raise ValueError("\n  line one of two\nline two")
    found = lines(tmp_path, "runs")
    [run_id] = {line["run_id"] for line in found}
    assert run_id.startswith("promo-2017-12-25-")
    assert [(line["stage"], line["event"]) for line in found] == [
        *(("ingest", "start"), ("ingest", "done"), ("encode", "start"), ("encode", "reused")),
        *(("train", "start"), ("train", "failed")),
    ]
    assert found[1]["rows"] == 7
    assert {line["contract"] for line in found} == {"promo"}
    assert (found[-1]["error"], found[-1]["message"]) == ("ValueError", "line one of two")
    assert made(tmp_path)[0].state()["run"]["run_id"] == run_id

    with made(tmp_path)[0].stage("start"):
        pass
    assert len(list((tmp_path / "log" / "runs").glob("*.jsonl"))) == 2


def test_a_scheduler_may_name_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMART_RUN_ID", "scheduled__2026-11-22T02:00:00+00:00/../x")
    for name in ("ingest", "encode"):
        with made(tmp_path)[0].stage(name):
            pass
    assert {line["run_id"] for line in lines(tmp_path, "runs")} == {"scheduled__2026-11-22T02_00_00_00_00_.._x"}


def test_openlineage_tells_what_was_read_and_written(tmp_path: Path) -> None:
    cycle = made(tmp_path)[0]
    with cycle.stage("ingest"):
        first, _ = cycle.make("exposures", "jobs.facts", {}, 1, write)
    with cycle.stage("encode"):
        second, _ = cycle.make("examples", "jobs.facts", {"exposures": cycle.dataset("exposures").content}, 1, write)
        cycle.dataset("examples")
    with pytest.raises(LakeError, match="no rows for promo"), cycle.stage("train"):
        [cycle.dataset(name) for name in ("examples", "rows")]
    found = lines(tmp_path, "openlineage")
    assert [event["eventType"] for event in found] == ["START", "COMPLETE"] * 2 + ["START", "FAIL"]
    for start, end in zip(found[::2], found[1::2], strict=True):
        assert start["run"]["runId"] == end["run"]["runId"]
        assert start["job"] == end["job"]
    assert len({event["run"]["runId"] for event in found}) == 3
    assert len({event["run"]["facets"]["parent"]["run"]["runId"] for event in found}) == 1
    encoded = found[3]
    assert encoded["job"]["name"] == "promo.encode"
    [read], [written] = encoded["inputs"], encoded["outputs"]  # what the stage made itself is no input
    assert read["name"] == str(first.folder.parent)
    assert read["facets"]["version"]["datasetVersion"] == first.key
    assert [(c["name"], c["type"]) for c in read["facets"]["schema"]["fields"]] == [("user", "string"), ("n", "int64")]
    assert written["name"] == str(second.folder.parent)
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert found[5]["run"]["facets"]["errorMessage"]["message"] == (
        "LakeError: no rows for promo 2017-12-25: run `fieldmart encode` first"
    )
    assert [item["name"] for item in found[5]["inputs"]] == [str(second.folder.parent)]


def test_a_log_that_cannot_be_written_is_told_once_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the folder should be")
    cycle, out = made(tmp_path)
    for name in ("ingest", "encode"):
        with cycle.stage(name):
            pass
    assert set(cycle.state()["stages"]) == {"ingest", "encode"}
    assert out.getvalue().count("the log of this run cannot be written, the night goes on") == 1


def test_only_the_last_files_are_kept(tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / f"{number}.jsonl"
        path.write_text("{}\n")
        os.utime(path, (number, number))
    run_events.prune(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3.jsonl", "4.jsonl"]
    run_events.prune(tmp_path / "nowhere", 2)
