"""Logloss, AUC and entropy of probabilities. NumPy only."""

from __future__ import annotations

import numpy as np

# Probabilities are kept this far from 0 and 1, so that one impossible row cannot make a logloss infinite.
EPSILON = 1e-12


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-logits)) as float64 of the same shape, without overflow for any logit."""
    z = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


def row_logloss(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """-log of the probability given to what happened, in nats, float64 [n]."""
    p = np.clip(np.asarray(p, np.float64), EPSILON, 1.0 - EPSILON)
    return -np.where(np.asarray(y) > 0, np.log(p), np.log1p(-p))


def entropy(rate: float) -> float:
    """Logloss of always predicting `rate` where the rate is `rate`.

    Normalized entropy is logloss over this (He et al. 2014).
    """
    return float(-rate * np.log(rate) - (1 - rate) * np.log1p(-rate)) if 0 < rate < 1 else 0.0


def auc(y: np.ndarray, score: np.ndarray) -> float:
    """Probability that a converted row scores above one that did not, ties counting half; NaN with one class only."""
    y = np.asarray(y) > 0
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(counts) - (counts - 1) / 2.0
    ranks = middle_rank[inverse][y].sum()
    return float((ranks - positives * (positives + 1) / 2.0) / (positives * negatives))
