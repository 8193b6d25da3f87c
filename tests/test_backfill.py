"""Backfills: which dates, what they are projected to cost, the budget, and going on after failures and crashes."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs import backfill, facts, score_tree
from jobs.backfill import BackfillError, Cost, Need
from jobs.contract import load
from jobs.cycle import Cycle
from jobs.java import JavaError
from jobs.lake import Dataset
from jobs.policies import Rates
from jobs.progress import Progress

CONF = Path(__file__).resolve().parent.parent / "conf"
CONTRACT = load(CONF / "promo.yml")
DAYS = [dt.date(2017, 12, day) for day in (4, 11, 18)]  # Mondays, on which ad-weeks start
RATES = Rates(usd_per_cpu_hour=0.36, usd_per_gib_hour=0.036, usd_per_gib_month=0.5)
COST = Cost(1000, ingest_s=10, score_s=20, cpu_s=30, bytes=2**30, peak_rss_mib=1024, workers=2, measured_on=DAYS[0])


def chosen(warehouse: Path, first: dt.date = DAYS[0], last: dt.date = DAYS[2]) -> list[Cycle]:
    return backfill.cycles(CONTRACT, warehouse, Progress(Console(file=io.StringIO(), width=200)), first, last)


def written(cycle: Cycle, name: str, table: pa.Table) -> Dataset:
    key = cycle.lake.key(name, "jobs.facts", {}, str(cycle.date))
    if cycle.lake.find(name, key) is None:
        with cycle.lake.writing(name, key) as folder:
            pq.write_table(table, folder / "part-0.parquet")
    cycle.remember({name: key})
    return cycle.lake.get(name, key)


def listed(cycle: Cycle, candidates: list[int]) -> None:
    rows = [{"entity_id": str(i), "match_id": "a", "candidates": n} for i, n in enumerate(candidates)]
    written(cycle, "entities", facts.table("entities", rows))


def fact(name: str, **values: Any) -> pa.Table:
    """One row with zeros and nulls besides `values`."""
    zero = {
        f.name: 0 if pa.types.is_integer(f.type) or pa.types.is_floating(f.type) else None for f in facts.FACTS[name]
    }
    return facts.table(name, [zero | values])


def scorer(
    calls: list[dt.date], failing: dict[dt.date, Exception] | None = None, **scoring: Any
) -> Callable[[Cycle], Dataset]:
    """Scores a date as the job would, for what a backfill sees of it."""
    made = {"model_id": "m1", "source": "model", "is_degraded": False} | scoring

    def score_one(cycle: Cycle) -> Dataset:
        calls.append(cycle.date)
        if failing and cycle.date in failing:
            raise failing[cycle.date]
        written(cycle, "scoring", fact("scoring", **made))
        return written(cycle, "scores", pa.table({"p": [0.1, 0.2]}))

    return score_one


def planned(cycles: list[Cycle], cost: Cost | None = COST) -> backfill.Plan:
    return backfill.plan(cycles, lambda cycle: backfill.is_scored(cycle, "m1"), cost, RATES)


def test_every_period_between_the_dates_is_one_cycle(tmp_path: Path) -> None:
    # From a Wednesday to a Sunday: the ad-weeks of 4, 11 and 18 December
    found = chosen(tmp_path, dt.date(2017, 12, 6), dt.date(2017, 12, 24))
    assert [cycle.date for cycle in found] == DAYS
    with pytest.raises(BackfillError, match="--to must not lie before --from, got 2017-12-04 and 2017-12-11"):
        chosen(tmp_path, DAYS[1], DAYS[0])


def test_a_projection_is_the_measured_cost_per_pair(tmp_path: Path) -> None:
    first, *_ = cycles = chosen(tmp_path)
    listed(first, [1500, 500])  # twice the measured pairs; the others count like the measured cycle
    plan = planned(cycles)
    # 10 + 2 · 30 CPU-s, 10 + 2 · 20 s, 2 GiB on disk; memory of two workers with 1 GiB and of the JVM's 3 GiB:
    # $ 70 · 0.36/3600 + 5 GiB · 50 s · 0.036/3600 + 2 · 0.5
    assert plan.dates[0][1] == Need(2000, 70, 50, 2 * 2**30, pytest.approx(0.007 + 0.0025 + 1))
    # 10 + 30, 10 + 20, 1 GiB on disk; $ 0.004 + 5 · 30 · 0.00001 + 0.5
    assert plan.dates[1][1] == plan.dates[2][1] == Need(1000, 40, 30, 2**30, pytest.approx(0.5055))
    assert plan.total == Need(4000, 150, 110, 4 * 2**30, pytest.approx(2.0205))


def test_the_jvm_is_priced_as_it_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMART_DRIVER_MEMORY", "5g")
    assert backfill.ASSUMED.memory_gib == (backfill.ASSUMED.workers * backfill.ASSUMED.peak_rss_mib + 5 * 1024) / 1024
    monkeypatch.setenv("FIELDMART_DRIVER_MEMORY", "lots")
    with pytest.raises(JavaError, match="FIELDMART_DRIVER_MEMORY must be a size such as 4g or 3000m, got 'lots'"):
        _ = backfill.ASSUMED.memory_gib


def test_a_plan_is_shown_as_a_table(tmp_path: Path) -> None:
    cycles = chosen(tmp_path)
    backfill.run(planned(cycles[:1]), scorer([]))
    out = io.StringIO()
    console = Console(file=out, width=200)
    backfill.show(planned(cycles), console)
    text = out.getvalue()
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert lines == [
        ["2017-12-04", "has scores", "", "", "", "0"],
        ["2017-12-11", "1,000", "40", "30", "1,024", "0.5055"],
        ["2017-12-18", "1,000", "40", "30", "1,024", "0.5055"],
        ["total", "2,000", "80", "60", "2,048", "1.011"],
    ]
    told = "Projected as measured on 2017-12-04, priced by rates.yml: 5.0 GiB of memory all the time, storage for one"
    assert told in text


def test_the_budget_refuses_before_anything_runs(tmp_path: Path) -> None:
    plan = planned(chosen(tmp_path))
    match = r"projected \$1.516 for 3 dates, more than --budget \$1: choose fewer dates"
    with pytest.raises(BackfillError, match=match):
        backfill.refuse_above(plan, 1.0)
    backfill.refuse_above(plan, 1.6)
    backfill.refuse_above(plan, None)


def test_without_a_measurement_the_cost_is_assumed_but_pairs_are_not(tmp_path: Path) -> None:
    cycles = chosen(tmp_path, DAYS[0], DAYS[0])
    assert backfill.measured(cycles[0]) is None
    with pytest.raises(BackfillError, match="no cost can be projected for 2017-12-04: no cycle of promo was ever sco"):
        planned(cycles, None)
    listed(cycles[0], [backfill.ASSUMED.pairs // 2])
    [(_, need)] = planned(cycles, None).dates
    assert need is not None
    assert need.cpu_s == backfill.ASSUMED.ingest_s + backfill.ASSUMED.cpu_s / 2


def test_the_cost_is_that_of_the_latest_cycle_with_scores_of_its_own(tmp_path: Path) -> None:
    first, second, third = chosen(tmp_path)
    scored = {"pairs": 500, "cpu_s": 7.0, "wall_s": 3.0, "peak_rss_mib": 900.0}
    for cycle, source in ((first, "prior"), (second, "model"), (third, "stale")):
        written(cycle, "scoring", fact("scoring", source=source, **scored))
        # Two processes scored two blocks each, after one that was stopped.
        blocks = [("1@here", False), ("2@here", False), ("1@here", False), ("2@here", False), ("0@here", True)]
        rows = [fact("score_blocks", bytes_written=n, worker=w, is_resumed=r) for n, (w, r) in enumerate(blocks, 22)]
        written(cycle, "score_blocks", pa.concat_tables(rows))
    # 22 + 23 + 24 + 25 + 26 bytes
    assert backfill.measured(first) == Cost(500, backfill.ASSUMED.ingest_s, 3.0, 7.0, 120, 900.0, 2, DAYS[1])
    # The stages know what went before and after the blocks; what was reused says nothing.
    second.remember({}, stages={"score": {"status": "done", "wall_s": 9.0}})
    second.remember({}, stages={"ingest": {"status": "reused", "wall_s": 0.1}})
    first.remember({}, stages={"ingest": {"status": "done", "wall_s": 12.0}})
    assert backfill.measured(third) == Cost(500, 12.0, 9.0, 7.0, 120, 900.0, 2, DAYS[1])


def test_blocks_that_were_all_scored_before_an_interruption_tell_their_own_workers(tmp_path: Path) -> None:
    [cycle] = chosen(tmp_path, DAYS[0], DAYS[0])
    written(cycle, "scoring", fact("scoring", source="model", pairs=500, wall_s=3.0))
    rows = [fact("score_blocks", worker=worker, is_resumed=True) for worker in ("1@a", "1@b", "2@a", "1@a")]
    written(cycle, "score_blocks", pa.concat_tables(rows))
    found = backfill.measured(cycle)
    assert found is not None
    assert found.workers == 3


def test_scores_go_into_the_tree_and_nowhere_else(tmp_path: Path) -> None:
    report = backfill.run(planned(chosen(tmp_path)), scorer([]))
    assert (report.scored, report.reused, report.failed) == (DAYS, [], {})
    assert [dated.date for dated in score_tree.listing(tmp_path, "promo")] == DAYS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cycles", "lake", "scores"]


def test_a_failed_date_does_not_lose_the_others_and_is_tried_again(tmp_path: Path) -> None:
    cycles, calls = chosen(tmp_path), []
    report = backfill.run(planned(cycles), scorer(calls, {DAYS[1]: ValueError("no offers\nand a trace")}))
    assert (calls, report.scored, report.failed) == (DAYS, [DAYS[0], DAYS[2]], {DAYS[1]: "no offers"})
    out = io.StringIO()
    console = Console(file=out, width=200)
    backfill.summary(report, console)
    text = out.getvalue()
    assert text == "2 dates scored, 0 had scores, 1 failed.\n  2017-12-11: no offers\n"
    again: list[dt.date] = []
    report = backfill.run(planned(cycles), scorer(again))
    assert (again, report.scored, report.reused) == ([DAYS[1]], [DAYS[1]], [DAYS[0], DAYS[2]])


def test_after_a_kill_the_finished_dates_are_kept(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def killed(cycle: Cycle) -> Dataset:
        if cycle.date == DAYS[1]:
            raise Killed
        return scorer([])(cycle)

    with pytest.raises(Killed):
        backfill.run(planned(chosen(tmp_path)), killed)
    calls: list[dt.date] = []
    backfill.run(planned(chosen(tmp_path)), scorer(calls))
    assert calls == DAYS[1:]


def test_stale_scores_do_not_belong_to_a_past_date(tmp_path: Path) -> None:
    report = backfill.run(planned(chosen(tmp_path, DAYS[0], DAYS[0])), scorer([], source="stale"))
    assert report.failed == {DAYS[0]: "its own scores failed the audits, and another night's do not belong there"}
    assert score_tree.listing(tmp_path, "promo") == []


def test_the_exit_code_tells_failed_from_degraded_from_well(tmp_path: Path) -> None:
    cycles = chosen(tmp_path)
    by_prior = {"model_id": "p1", "source": "prior", "is_degraded": True}
    report = backfill.run(planned(cycles[:1]), scorer([], **by_prior))
    assert (report.degraded, report.exit_code) == (DAYS[:1], 3)
    out = io.StringIO()
    console = Console(file=out, width=200)
    backfill.summary(report, console)
    assert "2017-12-04: scored by the prior, though there is a champion" in out.getvalue()
    assert backfill.run(planned(cycles[1:2]), scorer([])).exit_code == 0
    assert backfill.run(planned(cycles[2:]), scorer([], {DAYS[2]: ValueError("no")})).exit_code == 1


def test_what_counts_as_scored(tmp_path: Path) -> None:
    [cycle] = cycles = chosen(tmp_path, DAYS[0], DAYS[0])
    assert not backfill.is_scored(cycle, "m1")
    backfill.run(planned(cycles), scorer([]))
    assert backfill.is_scored(cycle, "m1")
    assert not backfill.is_scored(cycle, "m2")  # another champion since
    assert not backfill.is_scored(cycle, None)


def test_the_prior_counts_where_nothing_was_champion_and_the_tree_must_be_there(tmp_path: Path) -> None:
    [cycle] = chosen(tmp_path, DAYS[0], DAYS[0])
    dataset = scorer([], model_id="p1", source="prior")(cycle)
    assert not backfill.is_scored(cycle, None)
    score_tree.point(tmp_path, "promo", cycle.date, dataset)
    assert backfill.is_scored(cycle, None)
    assert not backfill.is_scored(cycle, "m1")
