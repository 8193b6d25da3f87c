"""Metrics of one model on the judged rows, by period and by part: what a Spark task of the evaluation returns.

Losses and sums are sums, so that any set of periods adds up; areas and ranking metrics are per period or part.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ffm_udf.judged_rows import JudgedRows
from ffm_udf.metrics import auc, average_precision, row_logloss
from ffm_udf.predictions import opened

PARTS = ("valid", "calib", "test")


def of_model(task: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """`periods`: one row per part and period; `parts`: auc and pr_auc per part, of the model at `place`.

    `task`: folders judged and predictions, place, top_n (of the ranking metrics).
    """
    rows, predictions = opened(task)
    logits = predictions.logits(task["place"])
    periods, parts = [], []
    for part in PARTS:
        span = rows.splits[part]
        p, y = predictions.p(task["place"], span), np.asarray(rows.y[span])
        parts.append({"split": part, **areas(y, p)})
        for number in rows.periods_of(part):
            inside = rows.periods[number]
            here = slice(inside.start - span.start, inside.stop - span.start)
            found = sums(y[here], p[here]) | areas(y[here], p[here])
            found |= ranking(*ranked(rows, inside, np.asarray(logits[inside])), task["top_n"])
            periods.append({"split": part, "period_no": number, **found})
    return {"periods": periods, "parts": parts}


def sums(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """n, conversions and the sums of p, logloss and squared error (of the Brier score)."""
    return {
        "n": len(y),
        "conversions": int(y.sum()),
        "sum_p": float(p.sum()),
        "sum_logloss": float(row_logloss(y, p).sum()),
        "sum_squared_error": float(((p - y) ** 2).sum()),
    }


def areas(y: np.ndarray, p: np.ndarray) -> dict[str, float | None]:
    """AUC and average precision; None where one class is missing."""
    if not 0 < y.sum() < len(y):
        return {"auc": None, "pr_auc": None}
    return {"auc": auc(y, p), "pr_auc": average_precision(y, p)}


def ranked(rows: JudgedRows, span: slice, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels of the rows of `span` that may be targeted, by candidate and falling score, ties in pseudo-random
    order; and the first row of every candidate, with the end last. The score is the raw logit, since a calibrator may
    tie what it tells apart."""
    y, candidate, tie = (np.asarray(array[span]) for array in (rows.y, rows.candidate, rows.tie))
    if rows.eligible is not None:
        kept = np.asarray(rows.eligible[span])
        y, candidate, tie, score = y[kept], candidate[kept], tie[kept], score[kept]
    order = np.lexsort((tie, -score, candidate))
    return y[order], starts_of(candidate[order])


def starts_of(groups: np.ndarray) -> np.ndarray:
    """First row of every run of equal values, and the end: int64 [runs + 1]."""
    return (
        np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1], [True]]))
        if len(groups)
        else np.zeros(1, np.int64)
    )


def ranking(y: np.ndarray, starts: np.ndarray, n: int) -> dict[str, float]:
    """NDCG@n and MAP@n summed over the groups with a conversion, their number, and conversions in the first n places.

    `y` [rows] in ranked order by group, `starts` [groups + 1]. Gains are 0 or 1, discounts 1 / log2(place + 1)
    (Järvelin & Kekäläinen 2002); average precision at n is over min(n, conversions) (Manning et al. 2008, §8.4).
    """
    y = np.asarray(y, np.float64)
    sizes = np.diff(starts)
    group = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(y)) - starts[:-1][group] + 1
    top = place <= n
    positives = np.bincount(group, y, len(sizes))
    caught = np.bincount(group[top], y[top], len(sizes))
    gains = np.bincount(group[top], y[top] / np.log2(place[top] + 1), len(sizes))
    running = np.cumsum(y)
    before = np.concatenate([[0.0], running])[starts[:-1]]
    precisions = y[top] * (running[top] - before[group[top]]) / place[top]
    precision = np.bincount(group[top], precisions, len(sizes))
    has = positives > 0
    reachable = np.minimum(positives[has], n).astype(np.int64)
    ideal = np.cumsum(1.0 / np.log2(np.arange(1, n + 1) + 1))[reachable - 1]
    return {
        "sum_ndcg": float((gains[has] / ideal).sum()),
        "sum_map": float((precision[has] / reachable).sum()),
        "ranked_groups": int(has.sum()),
        "captured": int(caught.sum()),
        "rankable": int(positives.sum()),
    }
