"""t intervals over periods for ratios of sums, and for differences paired by period.

Rows of one period share weather, ads and base rate, so the period is the unit that varies. With B periods the interval
has B - 1 degrees of freedom: a percentile bootstrap over nine blocks covers 89 % where 95 % is meant.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """Estimate with its two-sided interval and standard error; all but the value are None when fewer than two periods
    leave no spread to see. `hi` alone is None where nothing bounds it from above."""

    value: float
    lo: float | None
    hi: float | None
    error: float | None = None


def ratio(numerator: np.ndarray, denominator: np.ndarray, level: float = 0.95) -> Interval:
    """sum(numerator) / sum(denominator) over periods (arrays [B]), by linearisation (Cochran 1977, §6.3).

    The value is exactly that of the pooled rows. Raises ValueError if the denominators sum to zero.
    """
    a, b = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    if b.sum() == 0:
        raise ValueError("denominator must not sum to 0")
    value = a.sum() / b.sum()
    blocks = len(a)
    if blocks < 2:
        return Interval(float(value), None, None)
    residual = (a - value * b) / b.mean()
    error = np.sqrt((residual**2).sum() / (blocks * (blocks - 1)))
    half = stats.t.ppf(0.5 + level / 2, blocks - 1) * error
    return Interval(float(value), float(value - half), float(value + half), float(error))


def gap_variance(gaps: np.ndarray, of_rows: float) -> float:
    """Variance of the sum of gaps of periods [B]: that of their spread, or `of_rows`, what it would be if rows were
    independent, where that is larger: where hardly anybody converts, the gaps of all periods are nearly alike and say
    nothing."""
    return max(len(gaps) * float(gaps.var(ddof=1)), of_rows)


def calibration(
    expected: np.ndarray, observed: np.ndarray, variance: float | None = None, level: float = 0.95
) -> Interval:
    """sum(expected) / sum(observed) over periods (arrays [B]; sums of p, and conversions) with every ratio r that the t
    test of the gaps expected - r * observed does not reject (Fieller 1954): it has 1 in it exactly if the test of
    calibration (`slices.gap_p_value`) does not reject. No end is below 0; `hi` is None where no ratio is too high,
    and both ends with fewer than two periods.

    `variance`: sum of p (1 - p) over rows, from which that of r * observed follows at every r (rates are p / r); None
    where only the spread over periods is known. Raises ValueError if nobody converted.
    """
    a, b = np.asarray(expected, np.float64), np.asarray(observed, np.float64)
    if b.sum() == 0:
        raise ValueError("observed must not sum to 0")
    n, total, seen = len(a), float(a.sum()), float(b.sum())
    value = total / seen
    if n < 2:
        return Interval(value, None, None)
    critical = float(stats.t.ppf(0.5 + level / 2, n - 1)) ** 2

    def of_rows(r: float) -> float:
        return 0.0 if variance is None else variance + (r - 1.0) * total

    def is_held(r: float) -> bool:
        return bool((total - r * seen) ** 2 <= critical * gap_variance(a - r * b, of_rows(r)))

    # The test turns where the squared gap is critical times one of the variances, all of them quadratic in r.
    square, spread = np.array([seen**2, -2 * total * seen, total**2]), n * np.cov(b, a)
    turns = [square - critical * np.array([spread[0, 0], -2 * spread[0, 1], spread[1, 1]])]
    if variance is not None:
        turns.append(square - critical * np.array([0.0, total, variance - total]))
    roots = np.concatenate([np.roots(turn) for turn in turns])
    edges = [0.0, *sorted(float(r.real) for r in roots if r.imag == 0 and r.real > 0), np.inf]
    held = [(lo, hi) for lo, hi in itertools.pairwise(edges) if is_held((lo + hi) / 2 if hi < np.inf else 2 * lo + 1)]
    if not is_held(1.0):  # what is held on the other side of 1 is left out, or 1 would be in between
        held = [(lo, hi) for lo, hi in held if (lo >= 1.0) == (value > 1.0)]
    lo, hi = min([value, *(lo for lo, _ in held)]), max([value, *(hi for _, hi in held)])
    return Interval(value, lo, hi if hi < np.inf else None)


def combined(value: float, errors: list[tuple[float, int]], level: float = 0.95) -> Interval:
    """The interval of `value` from independent standard errors, each with its degrees of freedom (Welch 1947,
    Satterthwaite 1946). Without any error there is no interval."""
    if not errors:
        return Interval(value, None, None)
    variance = sum(error**2 for error, _ in errors)
    if variance == 0:
        return Interval(value, value, value, 0.0)
    freedom = variance**2 / sum(error**4 / df for error, df in errors)
    half = float(stats.t.ppf(0.5 + level / 2, freedom) * np.sqrt(variance))
    return Interval(value, value - half, value + half, float(np.sqrt(variance)))


def total(amounts: np.ndarray, level: float = 0.95) -> Interval:
    """Sum over periods (array [B]) with the t interval of B times the mean."""
    a = np.asarray(amounts, np.float64)
    mean = ratio(a, np.ones(len(a)), level)
    if mean.lo is None or mean.hi is None:
        return Interval(float(a.sum()), None, None)
    return Interval(float(a.sum()), mean.lo * len(a), mean.hi * len(a))


def simultaneous(level: float, comparisons: int) -> float:
    """The level of each of `comparisons` intervals that together hold with `level` (Bonferroni)."""
    return 1.0 - (1.0 - level) / max(comparisons, 1)
