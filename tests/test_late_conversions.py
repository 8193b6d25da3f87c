"""A conversion that comes late reaches no earlier row, on the way of training rows nor on that of tonight's pairs."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from rich.console import Console
from test_ingest import GOOD, written

from jobs import cli, encode, event_files, history, ingest
from jobs.event_files import EventFile
from jobs.history import SHOWN, Coder
from jobs.progress import Progress

DAYS = range(2, 9)  # of March; periods 1 to 7
SHOWN_ON, BOUGHT_ON = 2, 5


def clicks(bought: bool) -> list[dict]:
    """Ann clicks every day; what she clicked on the second she buys on the fifth, or never."""
    rows = [GOOD | {"clicked_at": f"2026-03-{day:02d} 10:00:00"} for day in DAYS]
    rows[0] |= {"bought_at": f"2026-03-{BOUGHT_ON:02d} 09:00:00" if bought else ""}
    return rows


@pytest.fixture(scope="module")
def cycles(spark, tmp_path_factory):
    """Two cycles of the contract in tests/test_ingest.py that differ in that one purchase."""
    found = []
    for bought in (False, True):
        folder = tmp_path_factory.mktemp("late")
        cycle = cli.cycle_of(written(folder, clicks(bought)), None, folder / "warehouse")
        cycle.progress = Progress(Console(quiet=True))
        ingest.run(cycle, spark)
        found.append(cycle)
    return found


def by_spark(cycle, spark) -> list[int]:
    """Ann's history by day as training rows get it."""
    tables = encode.events(cycle, spark)
    rows = encode.values(tables["exposures"], cycle.contract, cycle.periods, tables, 0.25, ["period_no"])
    return pl.DataFrame(rows.toArrow()).sort("period_no")["v_rate_user"].to_list()


def by_polars(cycle, spark) -> list[int]:
    """The same as tonight's pairs get it: events read from the snapshot's files, each asked about as of every day."""
    contract = cycle.contract
    paths = cycle.dataset("exposures").under("status=kept")
    read = [
        event_files.read(
            EventFile(path, SHOWN, ("user",)), contract.exposure_time, contract.conversion_time, cycle.periods
        )
        for path in paths
    ]
    events = pl.concat(read).with_columns(pl.lit(None, pl.String).alias("basket_id"))
    [rule] = [rule for rule in contract.fields if rule.transform == "history"]
    asked = pl.DataFrame({"user": ["ann"] * len(DAYS), "period_no": [day - 1 for day in DAYS]})
    asked = asked.with_columns(pl.col("period_no").cast(pl.Int32))
    coder = Coder(contract.history_smoothing, base_rate=0.25, first=0)
    return history.history_columns(asked, events, [rule], coder, {})[rule.name].to_list()


@pytest.mark.parametrize("way", [by_spark, by_polars])
def test_a_planted_late_conversion_reaches_only_rows_after_its_own_day(way, cycles, spark):
    without, planted = (way(cycle, spark) for cycle in cycles)
    until = list(DAYS).index(BOUGHT_ON) + 1  # rows up to the day of the purchase, that day included
    assert planted[:until] == without[:until]
    assert all(a > b for a, b in zip(planted[until:], without[until:], strict=True))


def test_both_ways_agree(cycles, spark):
    for cycle in cycles:
        assert by_spark(cycle, spark) == by_polars(cycle, spark)


def test_a_cycle_before_the_purchase_does_not_know_of_it(cycles, spark, tmp_path):
    """As of the day of the purchase the snapshot holds the click, without it."""
    before = cli.cycle_of(written(tmp_path, clicks(True)), f"2026-03-{BOUGHT_ON:02d}", tmp_path / "warehouse")
    before.progress = Progress(Console(quiet=True))
    kept = pl.concat([pl.read_parquet(path) for path in ingest.run(before, spark).under("status=kept")])
    assert kept["bought_at"].to_list() == [None] * 3
    assert kept["clicked_at"].dt.date().max() == dt.date(2026, 3, BOUGHT_ON - 1)
    assert by_spark(before, spark) == by_spark(cycles[0], spark)[:3]
