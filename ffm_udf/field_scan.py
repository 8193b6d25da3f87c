"""How well one field alone tells the label: smoothed rates of its values, learned on some rows and judged on others.

A field that knows the label ranks rows better alone than anything honest could. What is judged are counts per feature,
so the training rows are passed once, in chunks, however many there are. NumPy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffm_udf.clustered_auc import Area, clustered_auc
from ffm_udf.judged_rows import JudgedRows
from ffm_udf.predictions import opened
from ffm_udf.row_store import RowStore

CHUNK = 1 << 19  # rows counted at a time
SMOOTHING = 20.0  # rows at the base rate that every value starts with
AT_MOST = 500_000  # judged rows


def counts(
    X: np.ndarray, y: np.ndarray, n_features: int, columns: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and conversions by feature id, float64 [n_features] each, of X int32 [n] or [n, fields] (a feature is of one
    field, so fields do not mix); of some `columns` only if they are named."""
    n, c = np.zeros(n_features), np.zeros(n_features)
    for start in range(0, len(y), CHUNK):
        part = slice(start, start + CHUNK)
        ids, labels = np.asarray(X[part] if columns is None else X[part][:, columns]), np.asarray(y[part])
        n += np.bincount(ids.ravel(), minlength=n_features)
        c += np.bincount(ids[labels > 0].ravel(), minlength=n_features)
    return n, c


def smoothed(n: np.ndarray, c: np.ndarray) -> np.ndarray:
    """(c + SMOOTHING · base) / (n + SMOOTHING) with the base rate of all rows, float64 [n_features]."""
    return (c + SMOOTHING * c.sum() / max(n.sum(), 1.0)) / (n + SMOOTHING)


def auc_of_counts(rate: np.ndarray, n: np.ndarray, c: np.ndarray) -> float:
    """AUC of scoring every row with the rate of its feature, from the rows and conversions of each: what
    `metrics.auc` says of the rows themselves. NaN where one class is missing."""
    _, rank = np.unique(rate, return_inverse=True)
    positives, negatives = np.bincount(rank, c), np.bincount(rank, n - c)
    pairs = positives.sum() * negatives.sum()
    if not pairs:
        return float("nan")
    return float((positives * (np.cumsum(negatives) - negatives / 2.0)).sum() / pairs)


def training_counts(store: RowStore, span: slice, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and conversions by feature of every second period and of those between, float64 [2, 2, n_features]; and the
    column of every feature, int32 [n_features], -1 where it has no row. All in one pass over the rows."""
    folds, column = np.zeros((2, 2, n_features)), np.full(n_features, -1, np.int32)
    inside = [ends for ends in store.periods.values() if span.start <= ends[0] < ends[1] <= span.stop]
    for place, (first, end) in enumerate(sorted(inside)):
        for start in range(first, end, CHUNK):
            X, y = (np.asarray(array[start : min(start + CHUNK, end)]) for array in (store.X, store.y))
            column[X] = np.arange(X.shape[1])
            folds[place % 2] += counts(X, y, n_features)
    return folds, column


def within_training(folds: np.ndarray) -> float:
    """AUC inside the training rows of one field, from its `folds` float64 [2, 2, features]: rates of either fold judged
    on the other, which is what the field is worth where nothing but the rows differ. NaN if a fold is empty."""
    found = [auc_of_counts(smoothed(*folds[a]), *folds[b]) for a, b in ((0, 1), (1, 0)) if folds[a].any()]
    return float(np.mean(found)) if found else float("nan")


def held_out(rows: JudgedRows) -> np.ndarray:
    """Numbers of at most AT_MOST rows of valid and calib, which no candidate has learned from, evenly spread."""
    parts = [np.arange(rows.splits[part].start, rows.splits[part].stop) for part in ("valid", "calib")]
    every = np.concatenate(parts)
    return every[:: -(-len(every) // AT_MOST)]


def scan(task: dict[str, Any]) -> dict[str, Any]:
    """Every field alone, on the rows that the model at `place` has not learned from.

    task: folders judged and predictions, `place`, `training` [first, stop) rows of the RowStore, `n_features`. Returns
    `model`: its own Area; `fields`: per field its name, `area` and `within` (AUC inside the training rows).
    """
    rows, predictions = opened(task)
    training, n_features = slice(*task["training"]), task["n_features"]
    kept = held_out(rows)
    y, entity = rows.y[kept], rows.entity[kept]
    folds, column_of = training_counts(rows.store, training, n_features)
    rate = smoothed(*folds.sum(axis=0))
    found = []
    for column, name in enumerate(rows.fields):
        area: Area | None = clustered_auc(y, rate[rows.X[kept, column]], entity)
        found.append({"field": name, "area": area, "within": within_training(folds[:, :, column_of == column])})
    return {"model": clustered_auc(y, predictions.logits(task["place"])[kept], entity), "fields": found}
