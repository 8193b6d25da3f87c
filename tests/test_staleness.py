"""What old scores cost: lag 0 is what was published, no lag knows what came after it, and readers are told."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import shutil

import duckdb
import fake_facts
import fake_release
import numpy as np
import polars as pl
import pytest
from fake_training import NIGHTLY, SWEEP
from pyspark.sql import functions as F
from rich.console import Console
from scipy import special, stats
from shown_page import opened, sentence
from small_world import CONF

from dashboard import figures, look, queries
from ffm_udf.scoring import ScoringModel
from jobs import cli, decide, models, staleness
from jobs.cycle import Cycle
from jobs.encode import events
from jobs.progress import Progress
from jobs.release_audits import load_audits

NOT_MEASURED = "What older scores cost was not measured yet: run `fieldmart staleness`."


@pytest.fixture(scope="module")
def cycle(night, tmp_path_factory):
    """The night's cycle in a warehouse of its own."""
    warehouse = tmp_path_factory.mktemp("aged") / "warehouse"
    shutil.copytree(night.cycle.warehouse, warehouse, symlinks=True)
    found = cli.cycle_of(night.contract, None, warehouse)
    found.progress = Progress(Console(quiet=True))
    return found


@pytest.fixture(scope="module")
def rows(cycle, spark):
    return staleness.run(cycle, spark, CONF / "value.yml").table().to_pylist()


def judged(cycle: Cycle) -> list[int]:
    """The test periods."""
    rates = cycle.dataset("label_rates").table().to_pylist()
    return [cycle.periods.number(row["period"]) for row in rates if row["split"] == "test"]


def test_fresh_scores_are_those_that_evaluation_published(cycle, rows):
    fresh = rows[0]
    published = pl.DataFrame(cycle.dataset("model_metrics").table())
    [test] = published.filter(pl.col("model_id") == fresh["model_id"], pl.col("split") == "test").to_dicts()
    names = ("n", "conversions", "sum_p", "sum_logloss", "calibration_ratio_lo", "calibration_ratio_hi", "n_periods")
    for name in names:
        assert fresh[name] == pytest.approx(test[name], rel=1e-9), name
    value = pl.DataFrame(cycle.dataset("value_periods").table()).filter(pl.col("policy") == "model")
    assert value["model_id"].unique().to_list() == [fresh["model_id"]]
    assert fresh["captured"] == value["conversions"].sum()
    assert fresh["contacted"] == value["contacted"].sum()


def test_all_lags_score_the_same_rows_and_are_found_again(cycle, rows, spark):
    assert [(row["lag_periods"], row["is_reference"]) for row in rows] == [(lag, lag == 0) for lag in range(5)]
    same = ("n", "conversions", "contacted", "model_id", "test_from", "test_through", "n_periods", "period_days")
    assert all(row[name] == rows[0][name] for row in rows for name in same)
    assert len({row["sum_logloss"] for row in rows}) == 5
    zero = ("delta_logloss", "delta_lo", "delta_hi", "delta_relative", "captured_delta", "captured_relative_hi")
    assert all(rows[0][name] == 0 for name in zero)
    for row in rows[1:]:
        assert row["delta_logloss"] == pytest.approx((row["sum_logloss"] - rows[0]["sum_logloss"]) / row["n"])
        assert row["captured_delta"] == row["captured"] - rows[0]["captured"]
        assert row["delta_lo"] < row["delta_logloss"] < row["delta_hi"]
    written = cycle.dataset("staleness_cost").manifest["run"]
    assert staleness.run(cycle, spark, CONF / "value.yml").manifest["run"] == written


def test_lag_one_is_the_rehearsal_with_the_calibrator_of_the_period_before(cycle, rows, spark):
    """Ids looked up in polars, logits by the model itself, calibrators and sums in NumPy."""
    frame = pl.DataFrame(staleness.aged(cycle, events(cycle, spark), [1]).toArrow())
    vocabulary = pl.DataFrame(cycle.dataset("vocabulary").table())
    columns = []
    for field in cycle.contract.field_names:
        known = vocabulary.filter(pl.col("field") == field)
        ids = dict(known.select("value", "feature_id").iter_rows())
        texts = frame[f"v_{field}"].cast(pl.String)
        columns.append(texts.replace_strict(ids, default=ids[None], return_dtype=pl.Int32).to_numpy())
    candidate, rehearsal = staleness.shipping(cycle)
    logits, _ = ScoringModel(str(models.model_folder(cycle.warehouse, rehearsal))).score(np.column_stack(columns))
    learned = {
        cycle.periods.number(row["period"]): tuple(json.loads(row["calibrator"]).values())
        for row in cycle.dataset("calibrators").table().to_pylist()
        if row["model_id"] == candidate
    }
    first = min(judged(cycle))
    served = frame["served_no"].to_numpy()
    assert set(served) == set(judged(cycle))
    # Of periods before the first test period none is kept: the first of them is in force.
    slope, intercept = np.array([learned[max(number - 1, first)] for number in served]).T
    p, y = special.expit(slope * logits.astype(float) + intercept), frame["y"].to_numpy()
    assert rows[1]["sum_p"] == pytest.approx(p.sum(), rel=1e-9)
    assert rows[1]["sum_logloss"] == pytest.approx(-np.log(np.where(y == 1, p, 1 - p)).sum(), rel=1e-9)


def test_an_event_reaches_only_scores_made_after_its_period(cycle, spark):
    """Many conversions and baskets of one household, planted in the period before the first test period t.

    What is scored as of t or later sees them (lag 0 of t, lag 1 of t + 1), what is scored as of t - 1 or before does
    not.
    """
    first = min(judged(cycle))
    tables = events(cycle, spark)
    shown = tables["exposures"].where(F.col("period_no").isin(first, first + 1))
    twice = shown.groupBy("household_id").agg(F.countDistinct("period_no").alias("n")).where("n = 2")
    [household] = [row["household_id"] for row in twice.orderBy("household_id").limit(1).collect()]
    mine = {name: tables[name].where(F.col("household_id") == household) for name in ("exposures", "purchases")}
    exposed = (
        mine["exposures"].where(F.col("period_no") == first).orderBy("manufacturer_id", "product_category").limit(1)
    )
    [family] = [row["manufacturer_id"] for row in exposed.collect()]
    before, copies = F.lit(first - 1), F.explode(F.sequence(F.lit(1), F.lit(40)))
    planted = (
        exposed.withColumns({"period_no": before, "conversion_no": before}).withColumn("copy", copies).drop("copy")
    )
    morning = F.lit(cycle.periods.start(first - 1) + dt.timedelta(hours=8))
    bought = mine["purchases"].limit(5).withColumn("purchase_time", morning).withColumn("copy", copies)
    bought = bought.withColumn("basket_id", F.col("copy").cast(mine["purchases"].schema["basket_id"].dataType))
    after = {"exposures": mine["exposures"].unionByName(planted)}
    after["purchases"] = mine["purchases"].unionByName(bought.drop("copy"))
    kept = {"members": tables["members"]}

    def values(given) -> pl.DataFrame:
        found = pl.DataFrame(staleness.aged(cycle, given | kept, [0, 1, 2]).toArrow())
        return found.sort("lag", "served_no", "candidate_id", "exposure_time").select(pl.all().exclude("exposure_time"))

    without, with_them = values(mine), values(after)
    keys = ["lag", "served_no", "period_no", "entity_id", "candidate_id", "match_id"]
    assert without.select(keys).equals(with_them.select(keys))
    fields = [name for name in without.columns if name.startswith("v_")]
    differs = pl.any_horizontal(pl.Series(without[name] != with_them[name]) for name in fields)
    changed = without.select(*keys, "v_manufacturer").with_columns(differs.alias("changed"))
    as_of_before = pl.col("served_no") - pl.col("lag") < first
    assert {(1, first), (2, first + 1)} <= set(changed.filter(as_of_before).select("lag", "served_no").iter_rows())
    assert changed.filter(as_of_before)["changed"].sum() == 0
    own = changed.filter(~as_of_before, pl.col("v_manufacturer") == str(family))
    assert own.select("lag", "served_no").unique().height > 0
    assert own["changed"].all()
    reached = changed.filter("changed").select("lag", "served_no").unique()
    assert {(0, first), (0, first + 1), (1, first + 1)} <= set(reached.iter_rows())


def test_lags_end_where_nothing_would_be_known(cycle):
    first = min(cycle.periods.number(day) for day in cycle.dataset("label_rates").table()["period"].to_pylist())
    ages = staleness.ages_of(cycle, 100)
    assert ages == list(range(len(ages)))
    assert min(judged(cycle)) - ages[-1] == first + 1  # one period of data before the oldest score
    assert staleness.ages_of(cycle, 0) == [0]


def test_intervals_are_scipys():
    rng = np.random.default_rng(3)
    names = ("n", "conversions", "sum_p", "sum_logloss", "contacted", "captured")
    n = np.array([900, 1000, 1100, 1300, 800])
    fresh = dict(zip(names, (n, n // 20, n / 18, n * 0.2, n // 10, n // 40), strict=True))
    older = fresh | {"sum_logloss": n * 0.2 + rng.normal(4, 2, 5), "captured": n // 40 - rng.integers(0, 5, 5)}
    listed = [[{name: column[i] for name, column in side.items()} for i in range(5)] for side in (older, fresh)]
    found = staleness.against(*listed)
    missed = older["captured"] - fresh["captured"]
    total = stats.ttest_1samp(missed, 0).confidence_interval(0.95)
    assert found["captured_delta"] == missed.sum()
    assert (found["captured_delta_lo"], found["captured_delta_hi"]) == pytest.approx((5 * total.low, 5 * total.high))
    loss = older["sum_logloss"] - fresh["sum_logloss"]
    shares = {"delta_logloss": (loss, n), "delta_relative": (loss, n * 0.2), "captured_relative": (missed, n // 40)}
    for name, (amount, base) in shares.items():
        value = amount.sum() / base.sum()
        error = stats.sem((amount - value * base) / base.mean())
        ends = stats.t.interval(0.95, 4, loc=value, scale=error)
        start = name.removesuffix("_logloss")
        assert found[name] == pytest.approx(value)
        assert (found[f"{start}_lo"], found[f"{start}_hi"]) == pytest.approx(ends)


def test_without_a_captured_conversion_or_a_second_period_there_is_nothing_to_say():
    one = {"n": 10, "conversions": 0, "sum_p": 1.0, "sum_logloss": 2.0, "captured": 0}
    found = staleness.against([one | {"sum_logloss": 3.0}], [one])
    assert (found["delta_logloss"], found["delta_relative"], found["captured_delta"]) == (0.1, 0.5, 0.0)
    assert {value for name, value in found.items() if name.endswith(("_lo", "_hi"))} == {None}
    assert found["captured_relative"] is None


# ---- what readers see ----


def test_a_cycle_stands_on_what_was_measured_last(cycle, rows):
    week, key = dt.timedelta(days=7), cycle.dataset("staleness_cost").key
    later, earlier = (dataclasses.replace(cycle, date=cycle.date + step) for step in (week, -week))
    for other in (later, earlier):
        decide.remember_last(other, "staleness_cost")
    assert later.dataset("staleness_cost").key == key
    assert earlier.dataset("staleness_cost").rows == 0


def test_a_night_is_published_without_it(night):
    assert "fct_staleness_cost" in load_audits(CONF / "audits.yml").may_be_empty
    database = str(night.release.folder / "mart.duckdb")
    with duckdb.connect(database, read_only=True) as mart:
        assert mart.execute("select count(*) from fct_staleness_cost").fetchone() == (0,)
    assert sentence(database, "staleness") == NOT_MEASURED


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """Without and with staleness measured."""
    return [fake_release.build(tmp_path_factory.getbasetemp(), flavour) for flavour in (NIGHTLY, SWEEP)]


def test_the_page_says_what_to_run_or_what_it_costs(releases, monkeypatch):
    tables = []
    for release in releases:
        app = opened("scores", release.warehouse, monkeypatch)
        assert sentence(str(release.database), "staleness") in [text.value for text in app.markdown]
        tables.append([list(frame.value["age_days"]) for frame in app.dataframe if "age_days" in frame.value])
    assert tables == [[], [[0, 7, 14, 21]]]
    without, measured = (sentence(str(release.database), "staleness") for release in releases)
    assert without == NOT_MEASURED
    # From fake_facts.staleness: 1 % and 2 conversions of 100 a week, +-0.2 % and +-3.
    assert measured == (
        "Scores that are 7 days old instead of fresh change test logloss by +1.00 % (95 % interval +0.80 to +1.20 %),"
        " surely a loss, and the conversions among the top 20 entities of each candidate by -2.00 % (-5.00 to +1.00 %)."
        " At 21 days it is +3.00 % (95 % interval +2.40 to +3.60 %) and -6.00 % (-9.00 to -3.00 %)."
    )


def test_figure_draws_every_age_with_its_interval_and_crosses_what_is_sure(releases):
    given = fake_facts.evidence(SWEEP)["staleness_cost"]
    loss, captured = figures.staleness_cost(queries.staleness_cost(str(releases[1].database))).data
    for trace, name in ((loss, "delta_relative"), (captured, "captured_relative")):
        assert list(trace.x) == [0, 7, 14, 21]
        assert list(trace.y) == [row[name] for row in given]
        above = [row[f"{name}_hi"] - row[name] for row in given]
        assert list(trace.error_y.array) == pytest.approx(above)
    assert list(loss.marker.symbol) == ["circle", "x", "x", "x"]
    assert list(captured.marker.symbol) == ["circle", "circle", "x", "x"]
    assert captured.marker.color[2] == look.VERMILION
