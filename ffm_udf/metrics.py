"""Logloss, AUC, average precision and entropy of probabilities. NumPy only."""

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
    hits, rows = _by_falling_score(y, score)
    positives, negatives = hits[-1] if len(hits) else 0, rows[-1] - hits[-1] if len(hits) else 0
    if not positives or not negatives:
        return float("nan")
    misses = rows - hits
    # Area under the steps of hits over misses; ties are one slanted step.
    area = np.diff(misses, prepend=0) * (hits + np.concatenate([[0], hits[:-1]])) / 2.0
    return float(area.sum() / (float(positives) * float(negatives)))


def average_precision(y: np.ndarray, score: np.ndarray) -> float:
    """Precision averaged over the conversions, by falling score, tied rows at once; NaN without a conversion."""
    hits, rows = _by_falling_score(y, score)
    if not len(hits) or not hits[-1]:
        return float("nan")
    return float((np.diff(hits, prepend=0) * (hits / rows)).sum() / hits[-1])


def _by_falling_score(y: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Conversions and rows at or above each distinct score, from the highest on."""
    order = np.argsort(score)[::-1]
    sorted_score = np.asarray(score)[order]
    last = np.flatnonzero(np.concatenate([sorted_score[1:] != sorted_score[:-1], [True]])) if len(order) else order
    return np.cumsum(np.asarray(y)[order] > 0)[last], last + 1
