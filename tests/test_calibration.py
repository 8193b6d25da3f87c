"""The calibrator against scikit-learn's unpenalised logistic regression and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.linear_model import LogisticRegression

from ffm_udf import calibration
from ffm_udf.calibration import Calibrator, fit


def draw(seed: int, slope: float, intercept: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels whose true calibration is known."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-1.5, 1.0, n).astype(np.float32)
    return z, (rng.random(n) < special.expit(slope * z + intercept)).astype(np.int8)


def loss(z: np.ndarray, y: np.ndarray, calibrator: Calibrator) -> float:
    """Mean logloss from the logits themselves, which no clipping of p flattens."""
    logit = calibrator.slope * np.asarray(z, np.float64) + calibrator.intercept
    return float((np.logaddexp(0.0, logit) - y * logit).mean())


def test_the_default_changes_nothing() -> None:
    z = np.array([-800.0, -1.0, 0.0, 2.0, 800.0])
    np.testing.assert_allclose(Calibrator()(z), special.expit(z), rtol=1e-14)


def test_slope_and_intercept_act_on_the_logit() -> None:
    assert Calibrator(0.5, -1.0)(np.array([2.0]))[0] == 0.5  # 0.5 · 2 - 1 = 0
    assert Calibrator()(np.zeros(3, np.float32)).dtype == np.float64


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.6, 0.4), (1.8, -1.0), (3.0, 5.0), (0.05, -6.0)])
def test_fit_is_the_unpenalised_logistic_regression(slope: float, intercept: float) -> None:
    z, y = draw(1, slope, intercept)
    found = fit(z, y)
    other = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(z.reshape(-1, 1).astype(np.float64), y)
    assert (found.slope, found.intercept) == pytest.approx((other.coef_[0, 0], other.intercept_[0]), rel=1e-4, abs=1e-4)


def test_an_inverted_order_is_kept_and_the_mean_put_right() -> None:
    # The likelihood asks for a slope of about -0.5, which would turn the ranking round.
    z, y = draw(1, -0.5, 0.0)
    found = fit(z, y)
    assert found.slope == 1.0
    assert found(z).sum() == pytest.approx(y.sum(), rel=1e-9)


def test_fit_finds_the_truth_within_its_standard_error() -> None:
    z, y = draw(2, 0.7, 0.3, n=200_000)
    found = fit(z, y)
    # Fisher information at this design: a standard error of about 0.007 for the slope and 0.011 for the intercept.
    assert (found.slope, found.intercept) == pytest.approx((0.7, 0.3), abs=0.05)


def test_calibrated_sums_match_conversions() -> None:
    # The score equations of the two parameters: residuals sum to zero, alone and times the logit.
    z, y = draw(3, 0.6, 0.5)
    residual = y - fit(z, y)(z)
    assert residual.sum() == pytest.approx(0, abs=1e-6)
    assert (residual * z).sum() == pytest.approx(0, abs=1e-6)


def test_constant_logits_move_the_intercept_only() -> None:
    found = fit(np.full(8, -2.0), np.array([1, 0, 0, 0, 1, 0, 0, 0]))
    # p must be 1/4: logit -log 3 = 1 · -2 + intercept
    assert found.slope == 1.0
    assert found.intercept == pytest.approx(2 - math.log(3))


@pytest.mark.parametrize("y", [[], [0, 0, 0], [1, 1, 1]])
def test_one_class_is_left_as_it_is(y: list[int]) -> None:
    assert fit(np.arange(len(y), dtype=np.float64), np.array(y)) == Calibrator()


def test_two_values_are_fitted_exactly() -> None:
    # Rates 1/4 at logit 0 and 3/4 at logit 2: intercept logit(1/4), slope (logit(3/4) - logit(1/4)) / 2 = log 3.
    found = fit(np.repeat([0.0, 2.0], 4), np.array([1, 0, 0, 0, 1, 1, 1, 0]))
    assert (found.slope, found.intercept) == pytest.approx((math.log(3), -math.log(3)))


def test_separable_rows_end_with_finite_numbers() -> None:
    found = fit(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 0, 1, 1]))
    assert found.slope > 1
    assert math.isfinite(found.slope)
    assert math.isfinite(found.intercept)
    assert ((found(np.array([-1.0, 1.0])) > 0.5) == [False, True]).all()


def test_extreme_logits_do_not_break_the_fit() -> None:
    z, y = draw(4, 1.0, 0.0)
    z[:4], y[:4] = [-80, 80, -80, 80], [1, 0, 0, 1]
    found = fit(z, y)
    assert loss(z, y, found) < loss(z, y, Calibrator())
    assert loss(z, y, found) < loss(z, y, Calibrator(0.0, float(special.logit(y.mean()))))


def test_steps_that_overshoot_still_arrive() -> None:
    # Found by the property below: whole Newton steps went back and forth between two points here.
    z, y = np.array([0.0, 0.0, -2.0, -3.0]), np.array([0, 1, 1, 0])
    residual = y - fit(z, y)(z)
    assert (residual.sum(), (residual * z).sum()) == pytest.approx((0, 0), abs=1e-8)


labelled = st.lists(st.tuples(st.floats(-6, 6), st.integers(0, 1)), min_size=4, max_size=40)


@settings(deadline=None, max_examples=200)
@given(labelled)
def test_fit_never_loses_to_doing_nothing(rows: list[tuple[float, int]]) -> None:
    z, y = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    found = fit(z, y)
    assert 0 < found.slope < math.inf
    assert math.isfinite(found.intercept)
    assert loss(z, y, found) <= loss(z, y, Calibrator()) + 1e-9


def test_float32_is_the_same_and_never_certain():
    """At 40 the float64 probability is 1 - 4e-18, which float32 can only call 1."""
    z = np.array([-200.0, -90.0, -3.0, 0.0, 2.5, 40.0, 200.0], np.float32)
    p = Calibrator(1.5, -0.25).float32(z)
    assert p.dtype == np.float32
    assert (p > 0).all()
    assert (p < 1).all()
    np.testing.assert_allclose(p, Calibrator(1.5, -0.25)(z), atol=1e-7)


def test_inverse_takes_log_odds_back_to_logits():
    calibrator = Calibrator(0.8, 0.3)
    z = np.linspace(-5, 5, 11)
    np.testing.assert_allclose(calibrator.inverse(calibrator.logit(z)), z, atol=1e-12)


@pytest.mark.parametrize(
    "found",
    [
        Calibrator(0.8, 0.3),
        calibration.Beta(1.2, 0.7, -0.4),
        calibration.Table("isotonic", (-4.0, -2.0, 0.0), (-5.0, -2.5, -1.0)),
    ],
)
def test_a_levelled_calibrator_expects_as_many_conversions_as_there_were(found) -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(-2, 1, 5000)
    y = rng.random(5000) < 1 / (1 + np.exp(-(logits + 0.5)))
    level = calibration.levelled(found, logits, y)
    assert level(logits).sum() == pytest.approx(y.sum(), rel=1e-6)
    gaps = level.logit(logits) - found.logit(logits)
    np.testing.assert_allclose(gaps, gaps[0], atol=1e-9)  # the shape stays


def test_rows_of_one_class_level_nothing() -> None:
    known = Calibrator(0.8, 0.3)
    assert calibration.levelled(known, np.zeros(5), np.zeros(5)) == known
    assert calibration.levelled(known, np.zeros(0), np.zeros(0)) == known
