"""How far the other fields give a group away: who leaves a group's own field out has not removed the group.

Regularised least squares on group indicators (R. Rifkin, R. Lippert, "Notes on regularized least squares", MIT 2007)
guesses each entity's group from the features of its test rows. Entities are dealt to folds and each is guessed by a
model that has seen none of its rows, without the entity's key and without the fields made of the group's own column:
what remains is what behaviour and context tell. A better guesser may find more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from ffm_udf.clustered_auc import clustered_auc
from ffm_udf.judged_rows import JudgedRows

FOLDS = 5
ENTITIES, ROWS_EACH = 2_500, 200  # at most
BUCKETS = 2048  # of features
LEAST = 20  # entities of a group, for it to be guessed
RIDGE = 1.0  # rows of the kernel have length 1


def guess_groups(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Per group of the declared slice `attribute`: attribute, group, `entities`, `area` (one against the rest, over
    entities) and `recall` (share of its entities that are guessed right).

    task: folder judged, `attribute`, `columns` (of X) to guess from, `seed`. Groups of fewer than LEAST entities are
    left out; empty with fewer than two others.
    """
    rows = JudgedRows.open(task["judged"])
    counts, group = entity_features(rows, task["attribute"], task["columns"], task["seed"])
    present, sizes = np.unique(group, return_counts=True)
    known = present[sizes >= LEAST]
    if len(known) < 2:
        return []
    kept = np.flatnonzero(np.isin(group, known))
    place, score = np.searchsorted(known, group[kept]), held_out_scores(counts[kept], group[kept], known, task["seed"])
    guessed = score.argmax(axis=1)
    values = rows.slice_values[rows.slice_names.index(task["attribute"])]
    return [
        {
            "attribute": task["attribute"],
            "group": values[code],
            "entities": int((place == at).sum()),
            "area": clustered_auc(place == at, score[:, at], np.arange(len(kept))),
            "recall": float((guessed[place == at] == at).mean()),
        }
        for at, code in enumerate(known)
    ]


def entity_features(rows: JudgedRows, attribute: str, columns: list[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Square roots of the shares that features have in each entity's test rows, float32 [entities, BUCKETS] with rows
    of length 1 (features share a bucket by their id), and the code of each entity's group (of most of its rows)."""
    test = rows.splits["test"]
    _, entity = np.unique(rows.entity[test], return_inverse=True)
    rng = np.random.default_rng(seed)
    number = int(entity.max()) + 1
    drawn = np.sort(rng.choice(number, min(ENTITIES, number), replace=False))
    mine = np.flatnonzero(np.isin(entity, drawn))
    mine = rng.permutation(mine)
    order = mine[np.argsort(entity[mine], kind="stable")]
    who = np.searchsorted(drawn, entity[order])
    nth = np.arange(len(who)) - np.searchsorted(who, who)
    order, who = order[nth < ROWS_EACH], who[nth < ROWS_EACH]
    codes = np.asarray(rows.slices[test, rows.slice_names.index(attribute)])[order]
    values = int(codes.max()) + 1
    group = np.bincount(who * values + codes, minlength=len(drawn) * values).reshape(-1, values).argmax(axis=1)
    X = rows.X[test][order][:, columns]
    each = np.bincount(who, minlength=len(drawn)) * len(columns)
    cells = who[:, None] * BUCKETS + X % BUCKETS
    shares = np.bincount(cells.ravel(), minlength=len(drawn) * BUCKETS).reshape(-1, BUCKETS) / each[:, None]
    return np.sqrt(shares, dtype=np.float32), group


def held_out_scores(features: np.ndarray, group: np.ndarray, known: np.ndarray, seed: int) -> np.ndarray:
    """Scores float64 [entities, len(known)] by models that have not seen the entity: how many standard deviations of
    the group's indicator it is above what is expected of anybody.

    Folds have the same share of every group: else who is left out would be told by the mean of the rest.
    """
    order = np.random.default_rng([seed, len(group)]).permutation(len(group))
    order = order[np.argsort(group[order], kind="stable")]
    fold = np.empty(len(group), np.int64)
    fold[order] = np.arange(len(group)) % FOLDS
    kernel = features @ features.T
    indicator = (group[:, None] == known).astype(np.float32)
    found = np.zeros(indicator.shape)
    for number in range(FOLDS):
        learned, judged = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        inside, across = kernel[np.ix_(learned, learned)], kernel[np.ix_(judged, learned)]
        means, mean = inside.mean(axis=0), inside.mean()
        inside = inside - means - means[:, None] + mean  # of features less their means
        across = across - means - across.mean(axis=1)[:, None] + mean
        share = indicator[learned].mean(axis=0)
        factor = cho_factor(inside + RIDGE * np.eye(len(learned), dtype=np.float32), overwrite_a=True)
        found[judged] = across @ cho_solve(factor, indicator[learned] - share) / np.sqrt(share * (1.0 - share))
    return found
