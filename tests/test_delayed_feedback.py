"""The comparison of ways to label: one training against a fit by hand, the delay model, the table and the job."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from small_world import CONF
from test_ingest import GOOD, written

from ffm_udf import FFM, delayed_labels
from ffm_udf.row_store import RowStore, put
from jobs import cli, decide, delayed_feedback, delayed_rows, encode, ingest
from jobs.contract import ContractError, load
from jobs.cycle import Cycle
from jobs.delayed_feedback import METHODS, Options, against, compared, delay_model, measured
from jobs.delayed_rows import DelayedRows
from jobs.progress import Progress

WINDOW, PERIODS, ROWS, SIZE = 4.0, 12, 300, 9
HYPER = {"k": 1, "seed": 3, "eta": 0.1, "l2": 2e-5, "epochs": 2, "patience": None}


@pytest.fixture(scope="module")
def arrays(tmp_path_factory) -> Path:
    """Twelve periods of a day; the first field's value decides how often a row converts, after up to four days."""
    folder, rng = tmp_path_factory.mktemp("delayed"), np.random.default_rng(5)
    RowStore.create(folder, ["a", "b"], dict.fromkeys(range(PERIODS), ROWS))
    n = PERIODS * ROWS
    X = np.column_stack([rng.integers(1, 4, n), rng.integers(5, 9, n)]).astype(np.int32)
    converts = rng.random(n) < 0.1 * X[:, 0]
    delay = np.where(converts, rng.uniform(0, WINDOW, n), np.inf)
    put(folder, 0, X, converts.astype(np.int8))
    np.save(folder / "exposed.npy", 100 + np.repeat(np.arange(PERIODS), ROWS) + rng.random(n))
    np.save(folder / "delay.npy", delay)
    np.save(folder / "group.npy", (X[:, 1] % 2).astype(np.int32))
    return folder


def task(folder: Path, method: str, as_of: int = 9):
    sizes = {"offsets": [0, 4], "n_features": SIZE, "min_count": 1, "window": WINDOW}
    return (
        sizes
        | {"rows": str(folder), "as_of": as_of, "day": 100.0 + as_of, "method": method, "seed": 3}
        | {"hyperparameters": HYPER}
    )


def judged(model: FFM, data: DelayedRows, as_of: int) -> tuple[float, float]:
    """Sum of p and of the logloss over the rows of a period."""
    first, end = data.store.periods[as_of]
    p = 1 / (1 + np.exp(-model.decision_function(np.array(data.store.X[first:end])).astype(float)))
    y = data.store.y[first:end]
    return p.sum(), -np.log(np.where(y == 1, p, 1 - p)).sum()


def test_mature_rows_alone_are_those_a_window_old(arrays):
    data = DelayedRows.open(arrays)
    rows = np.flatnonzero(data.exposed <= 109 - WINDOW)
    model = FFM(**HYPER).fit(np.array(data.store.X[rows]), data.store.y[rows], n_features=SIZE)
    found = measured(task(arrays, "mature_only"))
    assert (found["sum_p"], found["sum_logloss"]) == pytest.approx(judged(model, data, 9), rel=1e-9)
    assert (found["n"], found["train_rows"], found["conversions"]) == (ROWS, len(rows), data.store.y[2700:3000].sum())


def test_fake_negatives_are_weighted_by_a_first_model(arrays):
    data = DelayedRows.open(arrays)
    X, age = np.array(data.store.X[:2700]), 109 - data.exposed[:2700]
    seen = np.flatnonzero(data.delay[:2700] < np.minimum(age, WINDOW))
    rows = np.concatenate([np.arange(2700), seen])
    y = np.repeat(np.array([0, 1], np.int8), [2700, len(seen)])
    b = 1 / (1 + np.exp(-FFM(**HYPER).fit(X[rows], y, n_features=SIZE).decision_function(X).astype(float)))
    p = np.minimum(b / (1 - b), 0.99)[rows]
    weight = np.where(y == 1, 1 + p, (1 - p) * (1 + p)).astype(np.float32)
    model = FFM(**HYPER).fit(X[rows], y, sample_weight=weight, n_features=SIZE)
    found = measured(task(arrays, "fake_negatives"))
    assert (found["sum_p"], found["sum_logloss"]) == pytest.approx(judged(model, data, 9), rel=1e-6)
    assert found["train_rows"] == 2700


def test_no_way_but_the_oracle_sees_a_conversion_that_has_not_happened_yet(arrays, tmp_path):
    """Every conversion after the as-of instant is taken back: only what knows the future changes."""
    data = DelayedRows.open(arrays)
    for path in arrays.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    earlier = np.arange(len(data.delay)) < 2700  # judged rows keep their labels
    unseen = earlier & (data.exposed + data.delay >= 109) & np.isfinite(data.delay)
    assert unseen.sum() > 50
    np.save(tmp_path / "delay.npy", np.where(unseen, np.inf, data.delay))
    for method in METHODS:
        before, after = (measured(task(folder, method))["sum_logloss"] for folder in (arrays, tmp_path))
        assert (before == after) == (method != "oracle"), method


def test_unseen_conversions_make_naive_scores_low_and_importance_weights_mend_it(arrays):
    found = {method: measured(task(arrays, method)) for method in ("naive", "importance_weights", "oracle")}
    rate = {method: row["sum_p"] for method, row in found.items()}
    assert rate["naive"] < 0.9 * rate["oracle"]
    assert rate["importance_weights"] == pytest.approx(rate["oracle"], rel=0.05)


def test_the_delay_model_is_that_of_the_group_or_of_all():
    # Group 0: 100 rows of closed windows, 20 convert in the first day and 20 in the third. Group 1: open windows only.
    age = np.concatenate([np.full(100, 9.0), np.full(50, 0.5)])
    delay = np.full(150, np.inf)
    delay[:20], delay[20:40] = 0.3, 2.5
    group = np.repeat([0, 1], [100, 50])
    shares, place = delay_model(age, delay, WINDOW, group)
    assert place.tolist() == [0] * 100 + [2] * 50
    assert shares[0] == pytest.approx([0, 0.2, 0.2, 0.4, 0.4])
    assert shares[2] == pytest.approx([0, 0.2, 0.2, 0.4, 0.4])  # the open ones are watched for less than a day
    with pytest.raises(ValueError, match="a delay model needs conversions among exposures whose window is closed"):
        delay_model(np.full(5, 1.0), np.full(5, 0.5), WINDOW, np.zeros(5, np.int64))


def test_intervals_are_paired_by_date_over_means_of_the_seeds():
    rng, dates, n = np.random.default_rng(2), [3, 5, 8, 9], np.array([1000, 1000, 1000, 1000])
    base, worse = rng.normal(100, 5, 4), rng.normal(2, 1, 4)
    done = [
        {"method": method, "as_of": date, "seed": seed, "n": 1000, "conversions": 20, "train_rows": 10 * date}
        | {"train_conversions": 5, "sum_p": 18.0 + seed, "sum_logloss": base[i] + step + (0.5 if seed else -0.5)}
        for i, date in enumerate(dates)
        for method in METHODS
        for step in [worse[i] if method == "naive" else 0.0]
        for seed in (0, 1)
    ]
    cycle = Cycle(load(CONF / "coupon.yml"), dt.date(2018, 1, 1), Path("nowhere"), Progress(Console(quiet=True)))
    rows = {row["method"]: row for row in compared(cycle, done)}
    assert list(rows) == list(METHODS)
    naive = rows["naive"]
    interval = stats.ttest_1samp(worse / n, 0).confidence_interval(0.95)
    assert (naive["delta_logloss_lo"], naive["delta_logloss_hi"]) == pytest.approx((interval.low, interval.high))
    assert naive["delta_relative"] == pytest.approx(worse.sum() / base.sum())
    assert naive["sum_logloss"] == pytest.approx((base + worse).sum())
    assert (naive["sum_p"], naive["n"], naive["conversions"], naive["train_rows"]) == (74.0, 4000, 80, 62.5)
    assert (naive["n_dates"], naive["n_seeds"], naive["delta_calibration"]) == (4, 2, 0)
    assert rows["mature_only"]["is_reference"]
    assert rows["mature_only"]["delta_relative_hi"] == 0
    assert [name for name, row in rows.items() if row["is_oracle"]] == ["oracle"]


def test_dates_at_which_nobody_converts_have_no_ratio():
    dates = np.array([100.0, 100.0])
    mine = {"n": dates, "conversions": 0 * dates, "sum_p": dates / 50, "sum_logloss": dates / 25}
    found = against(mine, mine | {"sum_logloss": dates / 20})
    # 4 instead of 5 per date on 100 rows.
    assert (found["delta_logloss"], found["delta_relative"]) == pytest.approx((-0.01, -0.2))
    ratios = {name for name in found if "calibration" in name}
    assert ratios == {"calibration_ratio_lo", "calibration_ratio_hi"} | {
        f"delta_calibration{end}" for end in ("", "_lo", "_hi")
    }
    assert {found[name] for name in ratios} == {None}


# ---- the job ----


@pytest.fixture(scope="module")
def cycle(spark, tmp_path_factory):
    """Forty days of clicks by sixty users, a third of which buy after one to four days."""
    rng, folder = np.random.default_rng(4), tmp_path_factory.mktemp("feedback")
    start, rows = dt.datetime(2026, 3, 1, 10), []
    for day in range(40):
        for user in rng.choice(60, 20, replace=False):
            at = start + dt.timedelta(days=day)
            buys = rng.random() < (0.6 if user % 2 else 0.1)
            bought = at + dt.timedelta(hours=float(rng.uniform(1, 90))) if buys else None
            rows.append(
                GOOD | {"user": f"u{user}", "clicked_at": f"{at}", "bought_at": f"{bought:%F %T}" if bought else ""}
            )
    label = {"events": ["purchase"], "window": 4, "delay_by": "device"}
    contract = written(folder, rows, default_date="2026-04-10", label=label)
    found = cli.cycle_of(contract, None, folder / "warehouse")
    found.progress = Progress(Console(quiet=True))
    ingest.run(found, spark)
    encode.run(found, spark)
    return found


OPTIONS = Options(as_ofs=3, seeds=1, epochs=1, conversions=20)


@pytest.mark.slow
def test_every_way_is_judged_on_the_last_matured_periods(cycle, spark):
    rows = delayed_feedback.run(cycle, spark, OPTIONS).table().to_pylist()
    assert [row["method"] for row in rows] == list(METHODS)
    # Day 40 scores; labels of day 35 are final four days later, so days 33 to 35 are judged.
    assert {(row["as_of_from"], row["as_of_through"], row["n_dates"]) for row in rows} == {
        (dt.date(2026, 4, 3), dt.date(2026, 4, 5), 3)
    }
    assert {row["n"] for row in rows} == {60}
    known = {row["method"]: row["train_conversions"] for row in rows}
    assert known["mature_only"] < known["naive"] < known["oracle"]
    assert known["naive"] == known["fake_negatives"] == known["importance_weights"]
    written_by = cycle.dataset("delayed_feedback").manifest["run"]
    assert delayed_feedback.run(cycle, spark, OPTIONS).manifest["run"] == written_by


@pytest.mark.slow
def test_the_arrays_hold_when_every_exposure_converted(cycle, spark):
    rows, _ = delayed_rows.make(cycle, spark)
    data = DelayedRows.open(str(rows.root))
    table = cycle.dataset("exposures").table().to_pandas()
    assert len(data.delay) == len(table) == 800
    took = (table["bought_at"] - table["clicked_at"]).dt.total_seconds() / 86_400
    assert sorted(data.delay[np.isfinite(data.delay)]) == pytest.approx(sorted(took.dropna()))
    days = np.floor(data.exposed) - delayed_feedback.as_of_day(cycle, 0)
    assert np.bincount(days.astype(int)).tolist() == [20] * 40
    assert (data.store.y == np.isfinite(data.delay)).all()
    assert (data.delay < 4).sum() == delayed_labels.seen(np.full(800, 99.0), data.delay, 4).sum()


@pytest.mark.slow
def test_a_later_cycle_stands_on_the_last_comparison(cycle, spark):
    key = delayed_feedback.run(cycle, spark, OPTIONS).key
    later = dataclasses.replace(cycle, date=cycle.date + dt.timedelta(days=1))
    decide.remember_last(later, "delayed_feedback")
    assert later.dataset("delayed_feedback").key == key


def test_too_few_conversions_or_a_window_that_ends_with_the_period_are_refused(cycle, spark):
    with pytest.raises(
        ContractError, match="at least two matured periods with 9999 final conversions before them, got 0"
    ):
        delayed_feedback.run(cycle, spark, dataclasses.replace(OPTIONS, conversions=9999))
    promo = Cycle(load(CONF / "promo.yml"), dt.date(2017, 12, 18), cycle.warehouse, cycle.progress)
    with pytest.raises(ContractError, match=r"delayed feedback needs label\.window in days, got 'end_of_period'"):
        delayed_feedback.run(promo, spark)
