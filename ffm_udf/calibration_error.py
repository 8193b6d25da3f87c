"""Calibration errors of binned predictions: the raw one, which small samples inflate, and the debiased one. NumPy only.

Bins hold equally many rows. Their error is a lower bound: what is too high and too low within one bin cancels out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True)
class Bins:
    """Rows, conversions and summed p of every bin, float64 [..., bins]; a leading axis may be periods."""

    n: np.ndarray
    conversions: np.ndarray
    sum_p: np.ndarray

    def pooled(self) -> Bins:
        """Over the leading axis."""
        return Bins(self.n.sum(axis=0), self.conversions.sum(axis=0), self.sum_p.sum(axis=0))

    def without(self, place: int) -> Bins:
        """Pooled, but for one entry of the leading axis."""
        return Bins(*(np.delete(part, place, axis=0).sum(axis=0) for part in (self.n, self.conversions, self.sum_p)))


def edges(p: np.ndarray, bins: int = BINS) -> np.ndarray:
    """What parts `p` into at most `bins` bins of equally many rows, float64, each once."""
    return np.unique(np.quantile(p, np.arange(1, bins) / bins)) if len(p) else np.zeros(0)


def binned(p: np.ndarray, y: np.ndarray, parted: np.ndarray, groups: list[slice] | None = None) -> Bins:
    """The bins of every group of rows (periods), or of all rows without a leading axis."""
    size, number = len(parted) + 1, np.searchsorted(parted, p, side="right")
    if groups is None:
        return Bins(*(np.bincount(number, weights, size).astype(np.float64) for weights in (None, y, p)))
    each = [binned(p[rows], y[rows], parted) for rows in groups]
    return Bins(*(np.stack([getattr(one, name) for one in each]) for name in ("n", "conversions", "sum_p")))


def expected_calibration_error(bins: Bins) -> float:
    """sum n_b / n |mean p - observed rate| (Naeini et al. 2015). Of a perfect model it is what chance leaves: with few
    rows it measures how few they are."""
    return float(np.abs(bins.sum_p - bins.conversions).sum() / bins.n.sum())


def debiased_squared(bins: Bins) -> float:
    """sum n_b / n [(mean p - rate)^2 - rate (1 - rate) / (n_b - 1)] (Bröcker 2012; Kumar, Liang and Ma 2019, §4).

    The second term estimates what chance adds to the first, so the mean over samples of a perfect model is 0 and a
    single one may be negative. Bins of a single row are left out.
    """
    kept = bins.n >= 2
    n, rate = bins.n[kept], bins.conversions[kept] / bins.n[kept]
    error = (bins.sum_p[kept] / n - rate) ** 2 - rate * (1 - rate) / (n - 1)
    return float((n * error).sum() / n.sum()) if len(n) else 0.0


def signed_root(squared: float) -> float:
    """sqrt with the sign kept: an error on the scale of p whose scatter about 0 stays visible."""
    return float(np.copysign(np.sqrt(abs(squared)), squared))
