"""t intervals against scipy's own, against worlds whose truth is known, and against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from jobs.intervals import Interval, calibration, ratio, simultaneous, total
from jobs.slices import gap_p_value

WORLDS, PERIODS = 3000, 9


def test_by_hand() -> None:
    # Value 6 / 6 = 1. Residuals (1 - 2, 2 - 2, 3 - 2) / 2; their squares sum to 1/2; error sqrt(1/2 / (3 · 2)).
    found = ratio([1, 2, 3], [2, 2, 2])
    half = 4.302652729911275 * np.sqrt(1 / 12)  # t with 2 degrees of freedom at 97.5 %, from a printed table: 4.3027
    assert found.value == 1.0
    assert (found.lo, found.hi) == pytest.approx((1 - half, 1 + half))


def test_equal_denominators_give_scipys_t_interval_of_the_mean() -> None:
    a = np.random.default_rng(3).normal(5, 2, 12)
    found = ratio(a, np.full(12, 4.0), level=0.9)
    lo, hi = stats.t.interval(0.9, df=11, loc=(a / 4).mean(), scale=stats.sem(a / 4))
    assert (found.value, found.lo, found.hi) == pytest.approx((a.mean() / 4, lo, hi))


def test_the_value_is_that_of_the_pooled_rows() -> None:
    rng = np.random.default_rng(5)
    sizes, clicks = rng.integers(50, 500, 9), rng.integers(1, 50, 9)
    rows = np.concatenate([np.r_[np.ones(c), np.zeros(n - c)] for n, c in zip(sizes, clicks, strict=True)])
    assert ratio(clicks, sizes).value == pytest.approx(rows.mean(), rel=1e-14)


def test_linearisation_agrees_with_the_jackknife() -> None:
    # It shares none of the algebra, and to first order both estimate the same variance (Cochran 1977, section 6.17).
    rng = np.random.default_rng(7)
    b = rng.uniform(900, 1100, 40)
    a = b * rng.normal(0.2, 0.02, 40)
    found = ratio(a, b)
    left_out = (a.sum() - a) / (b.sum() - b)
    error = np.sqrt(39 / 40 * ((left_out - left_out.mean()) ** 2).sum())
    assert (found.hi - found.lo) / 2 == pytest.approx(stats.t.ppf(0.975, 39) * error, rel=0.01)


def covered(a: np.ndarray, b: np.ndarray, truth: float, level: float = 0.95) -> int:
    found = [ratio(one, other, level) for one, other in zip(a, b, strict=True)]
    return sum(interval.lo <= truth <= interval.hi for interval in found)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_coverage_is_exact_for_normal_periods_of_equal_size(level: float) -> None:
    # Then the statistic has a t distribution, so hits are binomial with the nominal level.
    a = np.random.default_rng(11).normal(0.3, 0.1, (WORLDS, PERIODS))
    lo, hi = stats.binom.interval(0.999, WORLDS, level)
    assert lo <= covered(a, np.ones_like(a), 0.3, level) <= hi


def test_coverage_holds_nearly_for_periods_of_unequal_size() -> None:
    # Linearisation is first order only: no more than two points may be lost where sizes differ by a half.
    rng = np.random.default_rng(13)
    b = rng.uniform(0.75, 1.25, (WORLDS, PERIODS))
    a = b * rng.normal(0.3, 0.05, (WORLDS, PERIODS))
    lo, hi = stats.binom.interval(0.999, WORLDS, 0.95)
    assert lo - 0.02 * WORLDS <= covered(a, b, 0.3) <= hi


def test_fewer_than_two_periods_have_a_value_and_no_interval() -> None:
    assert ratio([3.0], [4.0]) == Interval(0.75, None, None)
    assert total([3.0]) == Interval(3.0, None, None)


def test_a_denominator_of_nothing() -> None:
    with pytest.raises(ValueError, match="denominator must not sum to 0"):
        ratio([1.0, 2.0], [0.0, 0.0])


def test_equal_rates_leave_no_spread() -> None:
    found = ratio([1, 2, 3], [2, 4, 6])
    assert (found.lo, found.hi) == pytest.approx((0.5, 0.5))


# ---- expected over observed conversions ----


def test_calibration_over_one_conversion_by_hand() -> None:
    """1 conversion where 4 are expected, evenly and rare: at ratio r the variance of the gap 4 - r is 4 r (p near 0),
    and the ends solve (4 - r)^2 = t^2 4 r."""
    observed, expected = np.array([1.0, 0, 0, 0]), np.ones(4)
    t2 = stats.t.ppf(0.975, 3) ** 2
    middle = 4 + 2 * t2
    lo = middle - np.sqrt(middle**2 - 16)
    found = calibration(expected, observed, variance=4.0)
    assert found.value == 4.0
    assert found.lo == pytest.approx(lo)
    # the spread of one conversion among four periods is wider than the rows alone from some ratio on, and has no end
    assert found.hi is None
    rows = calibration(np.full(4, 1.0), np.full(4, 1.0), variance=4.0)  # no spread: the rows alone, 1 expected in 1
    assert (rows.lo, rows.hi) == pytest.approx(tuple(sorted(np.roots([4, -8 - t2, 4]))))


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.floats(0.05, 9)), min_size=2, max_size=9).filter(
        lambda rows: any(seen for seen, _ in rows)
    ),
    st.one_of(st.none(), st.floats(0.5, 1)),
)
def test_the_interval_of_calibration_has_1_in_it_exactly_if_the_test_does_not_reject(
    rows: list[tuple[int, float]], share: float | None
) -> None:
    observed, expected = np.array(rows, np.float64).T
    variance = None if share is None else share * expected.sum()
    gaps = expected - observed
    assume(variance is not None or gaps.std() > 1e-6)  # without any error nothing is tested
    found, p_value = calibration(expected, observed, variance), gap_p_value(gaps, variance or 0.0)
    assert found.lo is not None
    assert p_value is not None
    hi = np.inf if found.hi is None else found.hi
    assert 0 <= found.lo <= found.value <= hi
    if abs(p_value - 0.05) > 1e-6:
        assert (found.lo <= 1 <= hi) == (p_value > 0.05)


@pytest.mark.parametrize("conversions", [0.5, 2.0, 30.0])
def test_the_interval_of_calibration_holds_what_it_says_with_few_conversions(conversions: float) -> None:
    """Nine periods of so many expected conversions each, p right. At least the nominal share of those that have one."""
    rng = np.random.default_rng(19)
    sizes = np.linspace(0.8, 1.2, PERIODS)
    expected = conversions * sizes
    observed = [row for row in rng.poisson(expected, (1000, PERIODS)) if row.any()]
    found = [calibration(expected, row, expected.sum()) for row in observed]
    held = sum(one.lo <= 1 and (one.hi is None or one.hi >= 1) for one in found)
    assert held >= stats.binom.ppf(0.001, len(found), 0.95)


def test_calibration_without_a_spread_or_a_conversion() -> None:
    assert calibration([3.0], [4.0], 1.0) == Interval(0.75, None, None)
    assert calibration([2.1] * 5, [2.0] * 5).lo == pytest.approx(1.05)
    with pytest.raises(ValueError, match="observed must not sum to 0"):
        calibration([1.0, 2.0], [0.0, 0.0], 1.0)


amounts = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)


@settings(deadline=None)
@given(amounts, st.floats(0.1, 10))
def test_scaling_and_turning_the_numerator_scales_and_turns_the_interval(a: list[float], factor: float) -> None:
    b = np.arange(1.0, len(a) + 1)
    base, scaled, turned = ratio(a, b), ratio(np.array(a) * factor, b), ratio(-np.array(a), b)
    assert (scaled.lo, scaled.hi) == pytest.approx((base.lo * factor, base.hi * factor), abs=1e-9)
    assert (turned.lo, turned.hi) == pytest.approx((-base.hi, -base.lo), abs=1e-9)


@settings(deadline=None)
@given(amounts)
def test_a_total_is_scipys_interval_of_the_mean_times_the_number_of_periods(a: list[float]) -> None:
    found, n = total(a), len(a)
    half = stats.t.ppf(0.975, n - 1) * np.std(a, ddof=1) / np.sqrt(n) * n
    assert found.value == pytest.approx(sum(a), abs=1e-9)
    assert (found.lo, found.hi) == pytest.approx((sum(a) - half, sum(a) + half), abs=1e-6)


def test_simultaneous_levels() -> None:
    # Bonferroni: three intervals at 1 - 0.05 / 3 hold together with at least 95 %.
    assert simultaneous(0.95, 3) == pytest.approx(1 - 0.05 / 3)
    assert simultaneous(0.95, 1) == simultaneous(0.95, 0) == pytest.approx(0.95)


def test_simultaneous_intervals_hold_together() -> None:
    rng = np.random.default_rng(17)
    level = simultaneous(0.95, 3)
    draws = rng.normal(0.0, 1.0, (1000, 3, PERIODS))
    together = 0
    for world in draws:
        found = [ratio(one, np.ones(PERIODS), level) for one in world]
        together += all(interval.lo <= 0 <= interval.hi for interval in found)
    # Independent here, so exactly (1 - 0.05 / 3) ** 3 = 0.9508 of the worlds.
    lo, hi = stats.binom.interval(0.999, 1000, (1 - 0.05 / 3) ** 3)
    assert lo <= together <= hi
