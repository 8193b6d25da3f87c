"""Models that show leakage by how well they do: one that knows keys only, and one that learned shuffled labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ffm_udf.clustered_auc import Area, auc_difference, clustered_auc
from ffm_udf.field_scan import held_out
from ffm_udf.metrics import auc
from ffm_udf.model import FFM
from ffm_udf.predictions import opened

KEY_ROWS = 3_000_000  # the last training rows, for the model of keys
KEYS: dict[str, Any] = {"k": 4, "eta": 0.2, "epochs": 5, "patience": 1}
CANARY_ROWS, CANARY_JUDGED = 20_000, 50_000
CANARY_POOL = 4_000_000  # training rows, evenly spread, that shuffles are drawn from
CANARY: dict[str, Any] = {"k": 2, "eta": 0.2, "epochs": 2, "patience": None}


def keys_only(task: dict[str, Any]) -> dict[str, Area | None]:
    """AUC of an FFM of the fields `columns` alone on the rows of valid and calib (`area`), and of the model at `place`
    minus that (`gain`). What a model of keys knows is whom and what it has met before.

    task: folders judged and predictions, `place`, `columns` (of X), `training` [first, stop) rows of the RowStore,
    `n_features`, `seed`.
    """
    rows, predictions = opened(task)
    first, stop = task["training"]
    training, valid, kept = slice(max(first, stop - KEY_ROWS), stop), rows.splits["valid"], held_out(rows)

    def chosen(X: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(X[:, task["columns"]])

    model = FFM(**KEYS, seed=task["seed"]).fit(
        chosen(rows.store.X[training]),
        rows.store.y[training],
        eval_set=(chosen(rows.X[valid]), rows.y[valid]),
        n_features=task["n_features"],
    )
    y, entity, z = rows.y[kept], rows.entity[kept], model.decision_function(chosen(rows.X[kept]))
    full = predictions.logits(task["place"])[kept]
    return {"area": clustered_auc(y, z, entity), "gain": auc_difference(y, full, z, entity)}


Shuffle = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def shuffled(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The labels in random order."""
    return rng.permutation(labels)


def canary(task: dict[str, Any], shuffle: Shuffle = shuffled) -> list[float]:
    """AUC with true labels on rows of valid and calib of models that learned shuffled ones, one per shuffle: 0.5 on
    average but for leakage.

    A random liking for some advertised product moves the AUC of one such model by 0.05 or more, so it takes many: their
    mean is judged, with the spread among them. Learned are as many positives as negatives; at the base rate a model
    that has just begun would also rank by how often it met a value. Shuffled are all training rows, across time: labels
    shuffled within a period keep its rate and with it that of what was advertised then.

    task: folders judged and predictions, `training` [first, stop) rows of the RowStore, `n_features`, `seeds`, one per
    shuffle. Empty if either class has no training row or the judged rows have one class only.
    """
    rows, _ = opened(task)
    training, kept = slice(*task["training"]), held_out(rows)
    kept = kept[:: -(-len(kept) // CANARY_JUDGED)]
    y, X = np.asarray(rows.y[kept]), np.ascontiguousarray(rows.X[kept])
    step = -(-(training.stop - training.start) // CANARY_POOL)
    labels = np.asarray(rows.store.y[training][::step])
    positive, negative = np.flatnonzero(labels > 0), np.flatnonzero(labels == 0)
    each = min(CANARY_ROWS // 2, len(positive), len(negative))
    if not each or not 0 < y.sum() < len(y):
        return []
    found = []
    for seed in task["seeds"]:
        rng = np.random.default_rng([seed, each])
        picked = [rng.choice(one, each, replace=False) for one in (positive, negative)]
        chosen = np.sort(np.concatenate(picked))
        learned = np.ascontiguousarray(rows.store.X[training.start + step * chosen])
        model = FFM(**CANARY, seed=seed).fit(learned, shuffle(labels[chosen], rng), n_features=task["n_features"])
        found.append(float(auc(y, model.decision_function(X))))
    return found
