"""t intervals over periods for ratios of sums, and for differences paired by period.

Rows of one period share weather, ads and base rate, so the period is the unit that varies. With B periods the interval
has B - 1 degrees of freedom: a percentile bootstrap over nine blocks covers 89 % where 95 % is meant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """Estimate with its two-sided interval and standard error; all but the value are None when fewer than two periods
    leave no spread to see."""

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
