"""The distribution of a total over periods when other households, in other periods, had been observed.

Households come back from period to period and what is sold in a period moves with the period, so rows are clustered two
ways. Whole groups of entities are redrawn with all their periods (a cluster bootstrap, which keeps the heavy tail of
sales); what periods vary by beyond that is added with a t distribution, since nine periods are too few to redraw. The
variances add up as in multiway clustering: by entity + by period - by entity within period (A. C. Cameron, J. B.
Gelbach, D. L. Miller, "Robust Inference With Multiway Clustering", JBES 29(2), 2011). Redrawing both at once instead
would count the noise of a single household-week three times (A. B. Owen, "The pigeonhole bootstrap", AoAS 1(2), 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REPLICATES = 2000
LEVELS = (0.05, 0.50, 0.95)


@dataclass(frozen=True)
class Draws:
    """The chance that all policies share, so that their differences are paired.

    weights: float64 [R, C], how often each cluster of entities is drawn; shocks: float64 [R], standard t with as many
    degrees of freedom as there are periods but one, zero for one period.
    """

    weights: np.ndarray
    shocks: np.ndarray

    @classmethod
    def of(cls, clusters: int, periods: int, seed: int, replicates: int = REPLICATES) -> Draws:
        """Draw as many clusters as there are, with replacement, `replicates` times."""
        rng = np.random.default_rng(seed)
        drawn = rng.integers(0, clusters, (replicates, clusters)) + clusters * np.arange(replicates)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=replicates * clusters).reshape(replicates, clusters)
        shocks = rng.standard_t(periods - 1, replicates) if periods > 1 else np.zeros(replicates)
        return cls(weights.astype(np.float64), shocks)


def redrawn(sums: np.ndarray, draws: Draws) -> np.ndarray:
    """Sums [C, P, Q] by cluster and period -> [R, P, Q] of the redrawn clusters."""
    clusters, periods, kinds = sums.shape
    return (draws.weights @ sums.reshape(clusters, periods * kinds)).reshape(-1, periods, kinds)


def totals(replicates: np.ndarray, observed: np.ndarray, draws: Draws) -> np.ndarray:
    """Totals over periods [R] from what redrawn entities bring by period [R, P] and what was observed [P]."""
    periods = len(observed)
    found = replicates.sum(axis=1)
    if periods < 2:
        return found
    noise = (replicates - observed).var(axis=1, ddof=1).mean()
    between = max(float(observed.var(ddof=1) - noise), 0.0)
    return found + np.sqrt(periods * between) * draws.shocks


def quantiles(replicates: np.ndarray, observed: np.ndarray, draws: Draws) -> tuple[float, float, float]:
    """The 5th, 50th and 95th percentile of the total."""
    low, middle, high = np.quantile(totals(replicates, observed, draws), LEVELS)
    return float(low), float(middle), float(high)
