"""Differences of logloss between models with a standard error that lets the rows of one entity depend on each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffm_udf.metrics import row_logloss
from ffm_udf.predictions import opened


def difference(task: dict[str, Any]) -> dict[str, float]:
    """Mean logloss of the models at places `mine` minus that of `theirs` (means over the places of each) on test, its
    standard error clustered by entity, and the number of entities.

    `task`: folders judged and predictions, mine, theirs.
    """
    rows, predictions = opened(task)
    test = rows.splits["test"]
    y = np.asarray(rows.y[test])

    def loss(places: list[int]) -> np.ndarray:
        total = np.zeros(len(y))
        for place in places:
            total += row_logloss(y, predictions.p(place, test))
        return total / len(places)

    return ratio_error(loss(task["mine"]) - loss(task["theirs"]), np.asarray(rows.entity[test]))


def ratio_error(values: np.ndarray, cluster: np.ndarray) -> dict[str, float]:
    """Mean of `values` [n] with its standard error over clusters [n] (linearised ratio; Liang & Zeger 1986)."""
    _, inverse, sizes = np.unique(cluster, return_inverse=True, return_counts=True)
    clusters, mean = len(sizes), float(values.mean())
    residual = np.bincount(inverse, values, clusters) - mean * sizes
    scale = clusters / (clusters - 1) if clusters > 1 else np.nan
    return {"delta": mean, "se": float(np.sqrt(scale * (residual**2).sum()) / len(values)), "clusters": clusters}
