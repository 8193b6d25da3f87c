"""Can a model tell rows of one set of periods from rows of another? Its AUC on entities it has not seen says how far
the rows have moved (adversarial validation). NumPy and the project's own FFM only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ffm_udf.clustered_auc import clustered_auc
from ffm_udf.field_scan import smoothed
from ffm_udf.model import FFM
from ffm_udf.row_store import RowStore

ROWS = 60_000  # of each side
SEPARATOR: dict[str, Any] = {"k": 2, "eta": 0.2, "epochs": 8, "patience": 1}


def separation(task: dict[str, Any]) -> list[dict[str, Any]]:
    """`field` (None for all together), `area` and `n` of telling the rows of `periods` from those of `others`.

    task: `rows` (a RowStore folder), `periods`, `others` (numbers), `entity_column` (of X), `n_features`, `seed`.
    Half of the entities are learned from, the other half judged; those that the vocabulary does not know are one. A
    field alone is judged by the smoothed share of its values; the entity's own key tells nothing that way, by design.
    Empty if either side has no rows.
    """
    store = RowStore.open(task["rows"])
    rng = np.random.default_rng(task["seed"])
    sides = [drawn(store, task[name], rng) for name in ("others", "periods")]
    if not all(len(side) for side in sides):
        return []
    X = np.concatenate([store.X[side] for side in sides])
    y = np.repeat(np.array([0, 1], np.int8), [len(side) for side in sides])
    entity = X[:, task["entity_column"]]
    is_learned = rng.random(task["n_features"])[entity] < 0.5
    learned, judged = np.flatnonzero(is_learned), np.flatnonzero(~is_learned)
    if len(np.unique(y[learned])) < 2:
        return []
    cut = rng.permutation(learned)
    tuned, fitted = np.sort(cut[: len(cut) // 10]), np.sort(cut[len(cut) // 10 :])
    model = FFM(**SEPARATOR, seed=task["seed"])
    model.fit(X[fitted], y[fitted], eval_set=(X[tuned], y[tuned]), n_features=task["n_features"])
    about = {"n": len(judged)}
    area = clustered_auc(y[judged], model.decision_function(X[judged]), entity[judged])
    found = [{"field": None, "area": area, **about}]
    for column, name in enumerate(store.fields):
        ids = X[learned, column]
        rate = smoothed(*(np.bincount(ids, w, task["n_features"]) for w in (None, y[learned])))
        found.append(
            {"field": name, "area": clustered_auc(y[judged], rate[X[judged, column]], entity[judged]), **about}
        )
    return found


def drawn(store: RowStore, numbers: list[int], rng: np.random.Generator) -> np.ndarray:
    """Row numbers of at most ROWS rows of the periods, in order."""
    spans = [store.periods[number] for number in numbers if number in store.periods]
    every = np.concatenate([np.zeros(0, np.int64), *(np.arange(*span) for span in spans)])
    return every if len(every) <= ROWS else np.sort(rng.choice(every, ROWS, replace=False))
