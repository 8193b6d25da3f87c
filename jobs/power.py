"""How many more test periods would decide what an interval leaves open. Pure."""

from __future__ import annotations

import math

from scipy import stats

FEW = 1_000  # periods; from here on the normal distribution stands in for t, to well within one period in a hundred


def periods_needed(
    error: float, n_periods: int, distance: float, power: float = 0.8, level: float = 0.95
) -> int | None:
    """Periods in all after which a t interval of `level` excludes the target with probability `power`.

    `error`: the standard error seen over `n_periods` periods; periods to come are taken to vary as much, so that of the
    mean over m of them is error * sqrt(n_periods / m). `distance`: from the estimate to the target, positive where the
    estimate lies on the side that the interval must come to lie on; it is taken to be the truth. With m periods the
    interval then excludes the target with P(T > t(level, m - 1)), T being noncentral t with m - 1 degrees of freedom
    (Cohen 1988, chapter 2). None where the estimate is not on that side: no number of periods can be expected to do it.
    Raises ValueError for fewer than two periods, an error below 0 or a share outside (0, 1).
    """
    if n_periods < 2:
        raise ValueError(f"n_periods must be at least 2, got {n_periods}")
    if not error >= 0:
        raise ValueError(f"error must be at least 0, got {error!r}")
    for name, share in (("power", power), ("level", level)):
        if not 0 < share < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {share!r}")
    if not distance > 0:
        return None
    effect = math.inf if error == 0 else distance / (error * math.sqrt(n_periods))  # in deviations of one period
    normal = ((stats.norm.ppf(0.5 + level / 2) + stats.norm.ppf(power)) / effect) ** 2
    if normal > FEW:
        return math.ceil(normal)
    return next(m for m in range(2, 2 * FEW) if _chance(effect, m, level) >= power)


def _chance(effect: float, m: int, level: float) -> float:
    """Of the interval over m periods to exclude a target that lies `effect` standard deviations away."""
    if math.isinf(effect):
        return 1.0
    return float(stats.nct.sf(stats.t.ppf(0.5 + level / 2, m - 1), m - 1, effect * math.sqrt(m)))


def error_of(half_width: float, n_periods: int, level: float = 0.95) -> float:
    """The standard error behind a t interval over `n_periods` (at least 2) that is `half_width` wide on a side."""
    return half_width / float(stats.t.ppf(0.5 + level / 2, n_periods - 1))
