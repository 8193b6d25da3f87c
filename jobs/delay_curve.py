"""How conversions arrive after their exposures: Kaplan–Meier on grouped counts, and what that says of a young period.

An exposure is followed for as many full days as it has been watched, at most to the horizon, the label's window. A
closed window leaves nothing open, so whoever has not converted by then was followed to the horizon. Exposures count as
independent; those of one campaign are not, so the bands are too narrow rather than too wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from lifelines import KaplanMeierFitter
from scipy import stats

Z95 = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class DelayCurve:
    """Arrays [horizon + 1] by full days since exposure, the first for day 0.

    `converted`: share that converts within so many days, of all exposures, with its band. `completeness`: share of the
    conversions within the horizon that have come by then, with its band; all NaN if no exposure was followed to the
    horizon or none converted.
    """

    at_risk: np.ndarray
    events: np.ndarray
    converted: np.ndarray
    converted_lo: np.ndarray
    converted_hi: np.ndarray
    completeness: np.ndarray
    completeness_lo: np.ndarray
    completeness_hi: np.ndarray

    @property
    def is_known(self) -> bool:
        return bool(np.isfinite(self.completeness[-1]))


def fitted(days: np.ndarray, converted: np.ndarray, n: np.ndarray, horizon: int) -> DelayCurve:
    """The curve of exposures counted by how they left: `n` int [m] of them after `days` int [m] full days, by
    converting (`converted` bool [m]; `days` is then the day of the conversion, from 1) or by not being watched further.

    Kaplan and Meier 1958 with the log-log band of lifelines; `completeness` is F(d) / F(horizon) with a band on its log
    odds. Survival before and after a day has independent increments, so the variance of the odds of what is still to
    come is Greenwood's of the first part plus Greenwood's of the second.
    """
    days_of_all = np.arange(horizon + 1)
    model = KaplanMeierFitter().fit(days, converted, timeline=days_of_all, weights=n)
    table = model.event_table.reindex(days_of_all)
    events = table["observed"].fillna(0).to_numpy(np.int64)
    left = table["removed"].fillna(0).to_numpy(np.int64)
    at_risk = int(n.sum()) - np.concatenate(([0], np.cumsum(left)[:-1]))
    survival = model.survival_function_.to_numpy()[:, 0]
    band = model.confidence_interval_survival_function_.to_numpy()
    share = np.clip(1 - survival, 0, 1)
    bounds = [np.where(share > 0, 1 - band[:, side], 0.0) for side in (1, 0)]
    complete = _completeness(survival, at_risk, events)
    return DelayCurve(at_risk, events, share, *bounds, *complete)


def _completeness(survival: np.ndarray, at_risk: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, ...]:
    """completeness, completeness_lo and completeness_hi of a DelayCurve."""
    share = 1 - survival
    if at_risk[-1] == 0 or share[-1] <= 0:
        nothing = np.full(len(share), np.nan)
        return nothing, nothing, nothing
    stayed = at_risk - events
    terms = np.divide(events, at_risk * np.maximum(stayed, 1.0), out=np.zeros(len(share)), where=at_risk > 0)
    greenwood = np.cumsum(terms)
    value = share / share[-1]
    to_come = 1 - survival[-1] / np.maximum(survival, 1e-300)  # of those not converted by then
    inside = (value > 0) & (to_come > 0)
    safe, later = np.where(inside, share, 1.0), np.where(inside, to_come, 1.0)
    variance = greenwood / safe**2 + ((1 - later) / later) ** 2 * (greenwood[-1] - greenwood)
    odds = survival * later / safe
    lo, hi = (1 / (1 + odds * np.exp(sign * Z95 * np.sqrt(variance))) for sign in (1, -1))
    # Where none or all of the conversions have come so far the odds say nothing: the exact binomial end does instead.
    lo, hi, exact = np.where(inside, lo, value), np.where(inside, hi, value), 0.025 ** (1 / events.sum())
    between = np.arange(len(share)) % (len(share) - 1) > 0  # at day 0 and at the horizon there is nothing to estimate
    return value, np.where(between & (value == 1), exact, lo), np.where(between & (value == 0), 1 - exact, hi)


def expected_final(
    known: int, share: float, share_lo: float, share_hi: float
) -> tuple[float | None, float | None, float | None]:
    """Conversions that a set of exposures will have in the end, if `known` are `share` of them: estimate, lower and
    upper end of a 95 % interval. None where nothing can be said.

    What comes is Poisson with the level that has been seen; with Jeffreys' prior on the level it is negative binomial
    given what is known. The ends take those of the share's own band.
    """
    if share >= 1:
        return float(known), float(known), float(known)
    if share <= 0:
        return None, None, None
    lo = known + stats.nbinom.ppf(0.025, known + 0.5, share_hi) if share_hi < 1 else float(known)
    hi = known + stats.nbinom.ppf(0.975, known + 0.5, share_lo) if share_lo > 0 else None
    return known / share, float(lo), None if hi is None else float(hi)
