"""AUC with a standard error that lets the rows of one entity depend on each other.

The placements of E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson (Biometrics 44, 1988), summed by cluster as in
N. A. Obuchowski (Biometrics 53, 1997). NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Area:
    """An AUC, or a difference of two, with its standard error (NaN with fewer than two clusters)."""

    value: float
    error: float
    clusters: int


def placements(y: np.ndarray, score: np.ndarray) -> np.ndarray:
    """For a positive the share of negatives with a lower score, for a negative the share of positives with a higher
    one, ties counting half: float64 [n]. Either class's mean is the AUC."""
    y = np.asarray(y) > 0
    _, rank = np.unique(score, return_inverse=True)
    positives, negatives = np.bincount(rank, y), np.bincount(rank, ~y)
    below = np.cumsum(negatives) - negatives / 2.0
    above = positives.sum() - np.cumsum(positives) + positives / 2.0
    return np.where(y, below[rank] / max(negatives.sum(), 1), above[rank] / max(positives.sum(), 1))


def clustered_auc(y: np.ndarray, score: np.ndarray, cluster: np.ndarray) -> Area | None:
    """The AUC of `score` for labels `y` [n], clustered by `cluster` [n]; None where one class is missing."""
    if not 0 < np.sum(y) < len(y):
        return None
    return _area(y, placements(y, score), cluster)


def auc_difference(y: np.ndarray, score: np.ndarray, other: np.ndarray, cluster: np.ndarray) -> Area | None:
    """AUC of `score` minus that of `other` on the same rows; None where one class is missing."""
    if not 0 < np.sum(y) < len(y):
        return None
    return _area(y, placements(y, score) - placements(y, other), cluster)


def _area(y: np.ndarray, placed: np.ndarray, cluster: np.ndarray) -> Area:
    is_positive = np.asarray(y) > 0
    value = float(placed[is_positive].mean())
    weight = np.where(is_positive, 1.0 / is_positive.sum(), 1.0 / (~is_positive).sum())
    _, inverse = np.unique(cluster, return_inverse=True)
    sums = np.bincount(inverse, (placed - value) * weight)
    clusters = len(sums)
    scale = clusters / (clusters - 1) if clusters > 1 else np.nan
    return Area(value, float(np.sqrt(scale * (sums**2).sum())), clusters)
