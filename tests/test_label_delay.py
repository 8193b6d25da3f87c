"""Labels as of an instant: what is seen, what is immature, what is late; the coupon data set is the proof."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pyspark.sql import functions as F
from rich.console import Console
from test_ingest import CLICKS, GOOD, written

from jobs import cli, ingest, label_delay
from jobs.adapters import coupon
from jobs.contract import Contract, load
from jobs.cycle import Cycle
from jobs.label_delay import LabelError
from jobs.periods import Periods, period_number
from jobs.progress import Progress

COUPON = Path(__file__).resolve().parent.parent / "conf" / "coupon.yml"


def cycle_in(folder: Path, **changes: Any) -> Cycle:
    """The contract of tests/test_ingest.py on the clocks of New York from 2017-03-01 on, seen from 2017-03-25."""
    source = {"source": {"adapter": "files", "exposures": "x"}}
    period = {"days": 5, "origin": dt.datetime(2017, 3, 1), "timezone": "America/New_York"}
    contract = Contract.model_validate(CLICKS | source | {"period": period} | changes)
    return Cycle(contract, dt.date(2017, 3, 25), folder, Progress(Console(quiet=True)))


def utc(day: int, hour: int = 0, minute: int = 0) -> dt.datetime:
    return dt.datetime(2017, 3, day, hour, minute, tzinfo=dt.UTC)


def exposures(spark, cycle: Cycle, rows: list[tuple]):
    """Rows (user, clicked, bought) with the numbers of their periods."""
    frame = spark.createDataFrame(rows, "user string, clicked_at timestamp, bought_at timestamp")
    frame = frame.withColumn("period_no", period_number("clicked_at", cycle.periods))
    return frame.withColumn("conversion_no", period_number("bought_at", cycle.periods))


def known(spark, cycle: Cycle, rows: list[tuple], moment: dt.datetime) -> dict[str, tuple]:
    """(state, followed, delay, is_late) of each user."""
    found = label_delay.as_of(cycle, exposures(spark, cycle, rows), moment).collect()
    return {row["user"]: (row["state"], row["followed"], row["delay"], row["is_late"]) for row in found}


def test_an_open_window_without_a_conversion_is_immature_and_never_a_negative(spark, tmp_path):
    cycle = cycle_in(tmp_path, label={"events": ["purchase"], "window": 4})
    rows = [
        ("closed", utc(14, 12), None),
        ("bought", utc(14, 12), utc(17, 11)),  # within three days
        ("late", utc(14, 12), utc(18, 13)),  # an hour after the four days
        ("open", utc(18, 12), None),
        ("open, bought", utc(18, 12), utc(20, 13)),
        ("buys later", utc(18, 12), utc(21, 13)),
        ("today", utc(21, 1), None),
        ("tomorrow", utc(22, 1), None),
    ]
    assert known(spark, cycle, rows, utc(21, 12)) == {
        "closed": ("not_converted", 4, None, False),
        "bought": ("converted", 4, 2, False),
        "late": ("not_converted", 4, None, True),
        "open": ("immature", 3, None, False),
        "open, bought": ("converted", 3, 2, False),
        "buys later": ("immature", 3, None, False),  # the conversion is an hour away
        "today": ("immature", 0, None, False),
    }


def test_days_are_those_of_the_wall_clock_also_when_clocks_change(spark, tmp_path):
    # Clocks went forward on March 12: midnights of New York are 05:00 UTC before it and 04:00 UTC after.
    cycle = cycle_in(tmp_path, label={"events": ["purchase"], "window": 10})
    rows = [("spring", utc(10, 5), utc(15, 4)), ("still open", utc(10, 5), None)]
    found = known(spark, cycle, rows, utc(16, 4))
    assert found == {"spring": ("converted", 6, 5, False), "still open": ("immature", 6, None, False)}
    assert known(spark, cycle, rows, utc(20, 4))["still open"] == ("not_converted", 10, None, False)


def test_a_window_that_ends_with_the_period_is_closed_by_its_end(spark, tmp_path):
    # Periods turn on the 16th and the 21st at local midnight, 04:00 UTC.
    cycle = cycle_in(tmp_path, label={"events": ["purchase"], "window": "end_of_period"})
    rows = [
        ("in its period", utc(19, 12), utc(20, 13)),
        ("in the next", utc(19, 12), utc(21, 5)),
        ("never", utc(20, 12), None),
        ("new", utc(21, 5), None),
    ]
    assert known(spark, cycle, rows, utc(22, 4)) == {
        "in its period": ("converted", 5, 1, False),
        "in the next": ("not_converted", 5, None, True),
        "never": ("not_converted", 5, None, False),
        "new": ("immature", 0, None, False),
    }


def test_a_period_is_provisional_then_final(spark, tmp_path):
    """Clicks of one day, seen from later and later: 2 of 4 purchases within the period, 3 by the cycle, 1 too late."""
    cycle = cycle_in(tmp_path, label={"events": ["purchase"], "window": 8})
    bought = [utc(18, 12), utc(19, 12), utc(22, 12), utc(28, 12), None, None]  # the period ends on the 21st, 04:00
    rows = [(str(i), utc(17, 12), moment) for i, moment in enumerate(bought)]
    frame = exposures(spark, cycle, rows)

    def settled(moment: dt.datetime) -> dict[str, Any]:
        counts = label_delay.counted(cycle, frame, cycle.periods.scoring, moment)
        curves = label_delay.curves_of(counts, label_delay.horizon(cycle))
        [row] = label_delay.settling_rows(cycle, counts, curves)
        return row

    then, now, final = settled(utc(21, 4)), settled(utc(24, 4)), settled(utc(30, 4))
    names = ("conversions_first", "conversions", "conversions_late", "immature")
    assert [[row[name] for name in names] for row in (then, now, final)] == [[2, 2, 0, 4], [2, 3, 0, 3], [2, 3, 1, 0]]
    assert {row["period"] for row in (then, now, final)} == {dt.date(2017, 3, 16)}
    assert (final["expected"], final["expected_lo"], final["expected_hi"]) == (3, 3, 3)
    assert now["expected"] is None  # nobody was watched for eight days yet: the delay is not known


def test_a_young_period_is_expected_to_become_what_older_ones_became(spark, tmp_path):
    # 100 old clicks: 20 buy after half a day, 20 after two and a half. 100 young ones, two days old: 30 have bought.
    # S = 1 - 50 / 200 = 0.75 after two days, then the old ones alone: 0.75 · (1 - 20 / 80). F = 0.25 and 0.4375, so
    # 30 are 0.25 / 0.4375 of what is to be expected.
    cycle = cycle_in(tmp_path, label={"events": ["purchase"], "window": 4})
    half, later = utc(6, 17), utc(8, 17)
    old = [(f"o{i}", utc(6, 5), half if i < 20 else later if i < 40 else None) for i in range(100)]
    young = [(f"y{i}", utc(16, 4), utc(16, 16) if i < 30 else None) for i in range(100)]
    counts = label_delay.counted(cycle, exposures(spark, cycle, old + young), cycle.periods.scoring, utc(18, 4))
    curves = label_delay.curves_of(counts, 4)
    assert curves["all"].converted[[1, 3]] == pytest.approx([0.25, 0.4375])
    _, row = label_delay.settling_rows(cycle, counts, curves)
    assert row["expected"] == pytest.approx(30 * 0.4375 / 0.25)
    assert row["expected_lo"] < row["expected"] < row["expected_hi"]


def test_groups_have_curves_of_their_own_and_the_unknown_go_by_all(spark, tmp_path):
    label = {"events": ["purchase"], "window": 4, "delay_by": "device"}
    cycle = cycle_in(tmp_path, label=label)
    rows = [(f"o{i}", utc(6, 5), utc(6, 17) if i < 20 else None) for i in range(100)]
    rows += [(f"y{i}", utc(16, 4), None) for i in range(10)]
    frame = exposures(spark, cycle, rows)
    frame = frame.withColumn("device", F.when(F.col("user").startswith("o"), "phone").otherwise("desktop"))
    counts = label_delay.counted(cycle, frame, cycle.periods.scoring, utc(18, 4))
    curves = label_delay.curves_of(counts, 4)
    assert list(curves) == ["all", "desktop", "phone"]
    assert [curve.is_known for curve in curves.values()] == [True, False, True]
    young = counts.filter(pl.col("grp") == "desktop")
    assert label_delay.seen_share(young, curves, 4)[0] == curves["all"].completeness[2]


def test_dates_beyond_what_the_cycle_knows_are_refused(spark, tmp_path):
    rows = [GOOD, GOOD | {"user": "bob", "bought_at": "2026-03-03 09:00:00", "revenue": "5"}]
    cycle = cli.cycle_of(written(tmp_path, rows), None, tmp_path / "warehouse")
    cycle.progress = Progress(Console(record=True, width=160))
    ingest.run(cycle, spark)
    with pytest.raises(LabelError, match="--as-of must not be after 2026-03-11, the end of what this cycle knows, got"):
        label_delay.show(cycle, spark, dt.date(2026, 3, 12))
    with pytest.raises(LabelError, match="--as-of must be after the first exposure, got 2026-03-01"):
        label_delay.show(cycle, spark, dt.date(2026, 3, 1))
    label_delay.show(cycle, spark, dt.date(2026, 3, 3))
    label_delay.show(cycle, spark, None)
    told = cycle.progress.console.export_text()
    assert "As of 2026-03-03 0 conversions are seen of the 1 that these exposures have as of 2026-03-11." in told
    assert "As of 2026-03-11 1 conversions are seen of the 1" in told
    assert not cycle.has("label_delay")  # showing writes nothing


def test_the_facts_are_made_once_and_agree_with_the_label_rates(night, own_night, spark):
    cycle = own_night.cycle
    first = label_delay.run(cycle, spark)
    assert label_delay.run(cycle, spark).manifest["run"] == first.manifest["run"]
    settled = {row["period"]: row for row in cycle.dataset("label_settling").table().to_pylist()}
    rates = {row["period"]: row for row in cycle.dataset("label_rates").table().to_pylist()}
    for name in ("exposures", "conversions"):
        assert {day: row[name] for day, row in settled.items()} == {day: row[name] for day, row in rates.items()}
    # The window of promo ends with the week: all is final, nothing immature.
    assert {row["immature"] for row in settled.values()} == {0}
    assert all(row["conversions_first"] == row["conversions"] == row["expected"] for row in settled.values())
    curve = [row for row in first.table().to_pylist() if row["grp"] == "all"]
    assert [row["delay_days"] for row in curve] == list(range(8))
    assert curve[-1]["completeness"] == 1
    assert 0.6 < curve[1]["completeness"] < 0.9  # most buy on the day of the visit
    assert sum(row["events"] for row in curve) == sum(row["conversions"] for row in rates.values())


# ---- the coupon data set ----


@pytest.fixture(scope="module")
def redeemed(spark):
    """The adapter's exposures as seen on 2017-11-13 and at the end of the year, summed by campaign."""
    contract, found = load(COUPON), {}
    for date in (dt.date(2017, 11, 13), dt.date(2018, 1, 1)):
        rows = coupon.tables(spark, contract.source, Periods(contract, date))["exposures"]
        took = F.datediff("conversion_time", "exposure_time")
        sums = rows.groupBy("campaign_id", "campaign_type", "exposure_time").agg(
            F.count("*").alias("n"), F.count("conversion_time").alias("c"), F.max(took).alias("longest")
        )
        found[date] = pl.DataFrame(sums.toArrow())
    return found


@pytest.mark.slow
def test_as_of_2017_11_13_1549_of_1972_redemptions_were_visible(redeemed):
    """Of the campaigns that had begun by then; the day itself is not over, so it is not known."""
    then, in_the_end = redeemed.values()
    assert then["c"].sum() == 1549
    same = in_the_end.filter(pl.col("campaign_id").is_in(then["campaign_id"].implode()))
    assert same["c"].sum() == 1972
    assert (
        then.sort("campaign_id").select("campaign_id", "n").equals(same.sort("campaign_id").select("campaign_id", "n"))
    )
    # the day's campaign-to-be is not there: 19 began on the 15th
    assert set(in_the_end["campaign_id"]) - set(then["campaign_id"]) == {19, 20, 21, 22, 23}


@pytest.mark.slow
def test_every_household_of_a_campaign_meets_every_coupon_of_it(redeemed):
    _, year = redeemed.values()
    assert (year["n"].sum(), year["c"].sum(), year["longest"].max()) == (800_199, 2_075, 65)
    assert sorted(year.filter(pl.col("campaign_type") == "Type A")["campaign_id"]) == [8, 13, 18, 27]
