"""Reliability on test: CORP against scikit-learn and its own figure, debiased errors against what they promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import judged_world
import numpy as np
import pytest
from scipy import special
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss

from ffm_udf import calibration_error as errors
from ffm_udf.calibration_error import Bins
from ffm_udf.metrics import row_logloss
from jobs import facts, reliability

PERIODS, ROWS = 6, 2000


def draw(seed: int, n: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """p with a mean of about 2 %, and labels whose log-odds are `shift` higher."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-4.5, 1.1, n)
    return special.expit(z), (rng.random(n) < special.expit(z + shift)).astype(np.int8)


def test_the_raw_error_measures_the_sample_and_the_debiased_one_the_model() -> None:
    """Perfect models at 2 %, 1,000 rows, 10 bins: half of the base rate against nothing."""
    raw, debiased, rate = [], [], []
    for seed in range(200):
        p, y = draw(seed, 1000)
        bins = errors.binned(p, y, errors.edges(p))
        raw.append(errors.expected_calibration_error(bins))
        debiased.append(errors.debiased_squared(bins))
        rate.append(p.mean())
    assert np.mean(raw) / np.mean(rate) == pytest.approx(0.5, abs=0.08)
    standard_error = np.std(debiased) / np.sqrt(200)
    assert abs(np.mean(debiased)) < 3 * standard_error
    # The raw squared error is 5 standard errors away from nothing.
    assert np.mean(np.square(raw)) > 5 * standard_error


def test_the_debiased_error_finds_a_known_one() -> None:
    """p is 0.01 or 0.05, twice the truth: squared errors 0.005² and 0.025² on halves."""
    found = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        p = np.repeat([0.01, 0.05], 2000)
        y = (rng.random(4000) < p / 2).astype(np.int8)
        found.append(errors.debiased_squared(errors.binned(p, y, np.array([0.03]))))
    truth = (0.005**2 + 0.025**2) / 2
    assert np.mean(found) == pytest.approx(truth, abs=3 * np.std(found) / np.sqrt(300))


def test_errors_of_two_bins_by_hand() -> None:
    # Bin 1: 4 rows, mean p 0.25, rate 0.5. Bin 2: 2 rows, mean p 0.5, rate 0.5.
    bins = Bins(np.array([4.0, 2.0]), np.array([2.0, 1.0]), np.array([1.0, 1.0]))
    assert errors.expected_calibration_error(bins) == pytest.approx(4 / 6 * 0.25)
    assert errors.debiased_squared(bins) == pytest.approx(4 / 6 * (0.0625 - 0.25 / 3) + 2 / 6 * (0 - 0.25 / 1))
    lonely = Bins(np.array([1.0]), np.array([1.0]), np.array([0.5]))
    assert errors.debiased_squared(lonely) == 0.0
    assert errors.signed_root(-0.04) == pytest.approx(-0.2)


def test_bins_of_periods_add_up() -> None:
    p, y = draw(0, 900)
    groups = [slice(0, 300), slice(300, 500), slice(500, 900)]
    by_period, all_rows = errors.binned(p, y, errors.edges(p), groups), errors.binned(p, y, errors.edges(p))
    np.testing.assert_allclose(by_period.pooled().sum_p, all_rows.sum_p)
    np.testing.assert_array_equal(by_period.pooled().n, all_rows.n)
    np.testing.assert_array_equal(by_period.without(1).n, all_rows.n - by_period.n[1])
    assert all_rows.n.tolist() == [90.0] * 10


def test_the_jackknife_is_leaving_each_period_out() -> None:
    """Three periods: variance 2/3 of the sum of squares about the mean, t with 2 degrees of freedom 4.3027."""
    p, y = draw(1, 3000)
    groups = [slice(0, 1000), slice(1000, 2000), slice(2000, 3000)]
    cuts = errors.edges(p)
    value, lo, hi = reliability.jackknife(errors.binned(p, y, cuts, groups))
    without = []
    for left in groups:
        kept = np.ones(3000, bool)
        kept[left] = False
        without.append(errors.debiased_squared(errors.binned(p[kept], y[kept], cuts)))
    half = 4.30265 * np.sqrt(2 / 3 * ((np.array(without) - np.mean(without)) ** 2).sum())
    assert (lo, hi) == pytest.approx((value - half, value + half))
    assert reliability.jackknife(errors.binned(p, y, cuts, groups[:1]))[1:] == (None, None)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_interval_covers_the_error(shift: float) -> None:
    """9 periods of 3,000 rows, 100 samples; the error of the bins without noise is known."""
    covered = 0
    for seed in range(100):
        p, y = draw(seed, 27_000, shift)
        groups = [slice(at * 3000, (at + 1) * 3000) for at in range(9)]
        cuts = errors.edges(p)
        _, lo, hi = reliability.jackknife(errors.binned(p, y, cuts, groups))
        sure = errors.binned(p, special.expit(special.logit(p) + shift), cuts)
        truth = float((sure.n * ((sure.sum_p - sure.conversions) / sure.n) ** 2).sum() / sure.n.sum())
        assert lo is not None
        assert hi is not None
        covered += lo <= truth <= hi
    assert covered >= 85


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Any]:
    p, y = draw(2, PERIODS * ROWS)
    splits = {"valid": (0, 0), "calib": (1, 1), "test": (2, PERIODS - 1)}
    counts = dict.fromkeys(range(PERIODS), ROWS)
    logits = [special.logit(p), special.logit(p) * 0.5]
    folders = judged_world.write(tmp_path, {"y": y}, counts, splits, logits)
    judged = judged_world.local(None, folders, ["a", "b"])
    return reliability.reliability_facts(judged, {"a": 0, "b": 1})


def test_both_facts_are_of_the_test_rows(found: dict[str, Any]) -> None:
    assert facts.table("reliability_curve", found["reliability_curve"]).num_rows > 20
    table = facts.table("calibration_error", found["calibration_error"]).to_pylist()
    assert [(row["model_id"], row["n"], row["n_periods"], row["bins"]) for row in table] == [
        ("a", 4 * ROWS, 4, 10),
        ("b", 4 * ROWS, 4, 10),
    ]
    p, y = draw(2, PERIODS * ROWS)
    test = slice(2 * ROWS, None)
    good, bad = table
    assert good["logloss"] == pytest.approx(log_loss(y[test], p[test]), rel=1e-6)
    recalibrated = IsotonicRegression().fit(p[test], y[test]).predict(p[test])
    assert good["logloss"] - good["miscalibration"] == pytest.approx(log_loss(y[test], recalibrated), rel=1e-5)
    for row in table:
        assert row["miscalibration"] - row["discrimination"] + row["uncertainty"] == pytest.approx(row["logloss"])
        assert (
            sum(point["n"] for point in found["reliability_curve"] if point["model_id"] == row["model_id"]) == row["n"]
        )
    # Both rank alike: the same rows discriminate as well, and only one of them is calibrated.
    assert good["discrimination"] == pytest.approx(bad["discrimination"], rel=1e-6)
    assert bad["miscalibration"] > 10 * good["miscalibration"]
    assert bad["squared_error_lo"] > 0 > good["squared_error_lo"]
    # Half of a model's raw error here is chance.
    assert good["ece_raw"] < 2 * good["ece_raw_if_perfect"]
    assert bad["ece_raw"] > 10 * bad["ece_raw_if_perfect"]


def test_the_curve_is_isotonic_regression_and_its_band_holds_a_calibrated_model(found: dict[str, Any]) -> None:
    p, y = draw(2, PERIODS * ROWS)
    test = slice(2 * ROWS, None)
    other = IsotonicRegression(out_of_bounds="clip").fit(p[test], y[test])
    points = [point for point in found["reliability_curve"] if point["model_id"] == "a"]
    x, rate = (np.array([point[name] for point in points]) for name in ("p", "observed_rate"))
    # Logits are float32 on disk.
    np.testing.assert_allclose(np.interp(x, other.X_thresholds_, other.y_thresholds_), rate, atol=2e-3)
    assert (np.diff(x) > 0).all()
    assert (np.diff(rate) >= 0).all()
    inside = [point["band_lo"] <= point["observed_rate"] <= point["band_hi"] for point in points]
    assert np.mean(inside) > 0.8
    off = [point for point in found["reliability_curve"] if point["model_id"] == "b"]
    assert np.mean([point["band_lo"] <= point["observed_rate"] <= point["band_hi"] for point in off]) < 0.5


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_class_are_all_miscalibration(label: int) -> None:
    p = np.array([0.1, 0.2, 0.3, 0.4])
    y = np.full(4, label, np.int8)
    drawn = reliability.simulated(p, 20, np.random.default_rng(0))
    found = reliability.error(p, y, [slice(0, 2), slice(2, 4)], drawn)
    assert found["miscalibration"] == found["logloss"] == pytest.approx(log_loss(y, p, labels=[0, 1]))
    assert (found["discrimination"], found["uncertainty"]) == (0.0, 0.0)
    assert {point["observed_rate"] for point in reliability.curve(p, y, drawn)} == {float(label)}


def test_logits_beyond_what_float64_can_call_uncertain_are_decomposed() -> None:
    """p of a row is exactly 1 and one exactly 0, and both are wrong."""
    p, y = np.array([0.0, 0.2, 0.6, 1.0]), np.array([1, 0, 1, 0], np.int8)
    found = reliability.decomposed(p, y)
    assert found["logloss"] == pytest.approx(row_logloss(y, p).mean())


def test_a_curve_of_many_corners_is_thinned() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(60_000)
    y = (rng.random(60_000) < p).astype(np.int8)
    drawn = reliability.simulated(p, 50, rng)
    assert drawn["n"].sum() == 60_000
    np.testing.assert_allclose((drawn["n"] * drawn["p"]).sum(), p.sum())
    points = reliability.curve(p, y, drawn)
    assert len(points) == reliability.POINTS
    assert (points[0]["p"], points[-1]["p"]) == (p.min(), p.max())
