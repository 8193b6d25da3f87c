"""What a cycle remembers, and what a person sees while it runs."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.contract import load
from jobs.cycle import MAKER, Cycle
from jobs.lake import LakeError
from jobs.progress import Progress

CONF = Path(__file__).parent.parent / "conf"
DAY = dt.date(2017, 12, 18)


def shown(terminal: bool = False) -> tuple[Progress, io.StringIO]:
    out = io.StringIO()
    return Progress(Console(file=out, force_terminal=terminal, width=100, highlight=False)), out


@pytest.fixture
def cycle(tmp_path: Path) -> Cycle:
    return Cycle(load(CONF / "promo.yml"), DAY, tmp_path, shown()[0])


def write(values: list[int], calls: list[int]):
    def to(folder: Path) -> None:
        calls.append(1)
        pq.write_table(pa.table({"v": values}), folder / "part-0.parquet")

    return to


def test_a_new_cycle_stands_on_nothing(cycle: Cycle) -> None:
    assert cycle.state() == {"datasets": {}, "stages": {}, "run": {}}
    assert not cycle.has("exposures")


@pytest.mark.parametrize(
    ("name", "step"),
    [("exposures", "ingest"), ("purchases", "ingest"), ("members", "ingest"),
     ("rows", "encode"), ("examples", "encode"), ("vocabulary", "encode"),
     ("label_rates", "encode"), ("models", "train"), ("predictions", "evaluate"), ("k_comparison", "evaluate"),
     ("scores", "score")],
)  # fmt: skip
def test_a_missing_data_set_names_the_step_that_makes_it(cycle: Cycle, name: str, step: str) -> None:
    with pytest.raises(LakeError, match=f"no {name} for promo 2017-12-18: run `fieldmart {step}` first"):
        cycle.dataset(name)


def test_every_step_named_is_a_command() -> None:
    from jobs.cli import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(MAKER.values()) <= names


def test_the_same_step_over_the_same_things_is_done_once(cycle: Cycle) -> None:
    calls: list[int] = []
    first, reused = cycle.make("things", "jobs.facts", {"in": "1"}, {"p": 1}, write([1, 2], calls))
    assert (reused, first.rows, len(calls)) == (False, 2, 1)
    second, reused = cycle.make("things", "jobs.facts", {"in": "1"}, {"p": 1}, write([1, 2], calls))
    assert (reused, second, len(calls)) == (True, first, 1)
    third, reused = cycle.make("things", "jobs.facts", {"in": "2"}, {"p": 1}, write([3], calls))
    assert (reused, third.rows, len(calls)) == (False, 1, 2)
    assert cycle.dataset("things") == third


def test_a_step_that_fails_changes_nothing(cycle: Cycle) -> None:
    made, _ = cycle.make("things", "jobs.facts", {}, 1, write([1], []))

    def fail(folder: Path) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cycle.make("things", "jobs.facts", {}, 2, fail)
    assert cycle.dataset("things") == made


def test_another_process_finds_what_the_cycle_made(cycle: Cycle) -> None:
    made, _ = cycle.make("things", "jobs.facts", {}, 1, write([1], []))
    again = Cycle(cycle.contract, DAY, cycle.warehouse, shown()[0])
    assert again.has("things")
    assert again.dataset("things") == made
    other_day = Cycle(cycle.contract, DAY + dt.timedelta(days=7), cycle.warehouse, shown()[0])
    assert not other_day.has("things")
    made_again, reused = other_day.make("things", "jobs.facts", {}, 1, write([1], []))
    assert (made_again, reused) == (made, True)


def test_a_data_set_whose_files_are_gone_counts_as_missing(cycle: Cycle) -> None:
    made, _ = cycle.make("examples", "jobs.facts", {}, 1, write([1], []))
    Path(made.files[0]).unlink()
    assert not cycle.has("examples")
    with pytest.raises(LakeError, match="run `fieldmart encode` first"):
        cycle.dataset("examples")


@pytest.mark.parametrize("text", ['{"datasets"', "[]", "{}"])
def test_a_damaged_cycle_is_one_line(cycle: Cycle, text: str) -> None:
    path = cycle.warehouse / "cycles" / "promo" / "2017-12-18.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(LakeError, match=r"2017-12-18\.json is damaged: bring it back from a backup"):
        cycle.state()


def test_remember_adds_and_keeps_what_was_there(cycle: Cycle) -> None:
    cycle.remember({"a": "1"}, run={"x": 1})
    cycle.remember({"b": "2"}, run={"y": 2}, stages={"s": {"rows": 3}})
    assert cycle.state() == {
        "datasets": {"a": "1", "b": "2"}, "run": {"x": 1, "y": 2}, "stages": {"s": {"rows": 3}},
    }  # fmt: skip


def test_a_stage_is_timed_and_remembered(cycle: Cycle) -> None:
    made, reused = cycle.make("things", "jobs.facts", {}, 1, write([1, 2, 3], []))
    with cycle.stage("encode") as stage:
        stage.made(made, reused)
    record = cycle.state()["stages"]["encode"]
    assert (record["rows"], record["bytes_written"], record["status"]) == (3, made.bytes, "done")
    assert record["wall_s"] >= 0
    assert record["peak_rss_mib"] > 1
    assert dt.datetime.fromisoformat(record["started_at"]).tzinfo is None  # UTC, as the facts keep it
    with cycle.stage("encode") as stage:
        stage.made(made, True)
    assert cycle.state()["stages"]["encode"]["status"] == "reused"


def test_a_failed_stage_is_shown_and_not_remembered(tmp_path: Path) -> None:
    progress, out = shown()
    cycle = Cycle(load(CONF / "promo.yml"), DAY, tmp_path, progress)
    with pytest.raises(RuntimeError, match="no memory"), cycle.stage("train"):
        raise RuntimeError("no memory")
    assert cycle.state()["stages"] == {}
    assert out.getvalue().startswith("✗ train      failed after 0.0 s")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_finished_stage_is_one_line_with_rows_time_and_rate(terminal: bool) -> None:
    progress, out = shown(terminal)
    progress.start("ingest")
    progress.note("3 rows quarantined")
    progress.finish("ingest", 1_200_000, 2.0, reused=False, failed=False)
    if not terminal:
        assert out.getvalue().splitlines() == [
            "  3 rows quarantined",
            "✓ ingest        1,200,000 rows      2.0 s     600,000 rows/s",
        ]
    assert "600,000 rows/s" in out.getvalue()


def test_a_reused_stage_claims_no_rate() -> None:
    progress, out = shown()
    progress.finish("ingest", 1_200_000, 2.0, reused=True, failed=False)
    assert out.getvalue() == "✓ ingest        1,200,000 rows     reused\n"


def test_a_stage_without_rows_or_time_divides_by_nothing() -> None:
    progress, out = shown()
    progress.finish("start", 0, 0.0, reused=False, failed=False)
    progress.finish("quick", 5, 0.0, reused=False, failed=False)
    assert "rows/s" not in out.getvalue().splitlines()[0]
