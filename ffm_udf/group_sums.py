"""What a model does to each group of entities on the test rows: sums of p and conversions, contacts, ranking.

NumPy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ffm_udf.clustered_auc import clustered_auc
from ffm_udf.judged_rows import JudgedRows
from ffm_udf.predictions import opened
from ffm_udf.profit import levels


def group_sums(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Per group of each declared slice of `attributes`, for the model at `place`.

    task: folders judged and predictions, `place`, `attributes`, `top_n`. Returns attribute, group, `sums` float64
    [periods, 3] (rows, conversions, sum of p), `entities`, `ratio_error` (of sum of p over conversions, clustered by
    entity; None without a conversion or a second entity), `area` (AUC within the group, or None), `contacted` and
    `captured`: rows and conversions among the `top_n` of each candidate and period that rank highest by raw logit, as
    contacts are chosen (a calibrator may tie what the model tells apart).
    """
    rows, predictions = opened(task)
    test = rows.splits["test"]
    y, entity = np.asarray(rows.y[test]), np.asarray(rows.entity[test])
    p = predictions.p(task["place"], test)
    period = np.concatenate(
        [np.full(rows.periods[n].stop - rows.periods[n].start, i) for i, n in enumerate(rows.periods_of("test"))]
    )
    chosen = contacted(rows, test, period, np.asarray(predictions.logits(task["place"])[test]), task["top_n"])
    found = []
    for attribute in task["attributes"]:
        column = rows.slice_names.index(attribute)
        codes = np.asarray(rows.slices[test, column])
        for code, group in enumerate(rows.slice_values[column]):
            mine = np.flatnonzero(codes == code)
            if not len(mine):
                continue
            at, number = period[mine], int(period[-1]) + 1
            sums = np.column_stack([np.bincount(at, w, number) for w in (None, y[mine], p[mine])])
            found.append(
                {"attribute": attribute, "group": group, "sums": sums}
                | {"entities": len(np.unique(entity[mine]))}
                | {"ratio_error": ratio_error(p[mine], y[mine], entity[mine])}
                | {"area": clustered_auc(y[mine], p[mine], entity[mine])}
                | {"contacted": int(chosen[mine].sum()), "captured": int(y[mine][chosen[mine]].sum())}
            )
    return found


def contacted(rows: JudgedRows, span: slice, period: np.ndarray, score: np.ndarray, top_n: int) -> np.ndarray:
    """Whether each row of the span is among the `top_n` eligible ones of its candidate and period, bool [n]."""
    eligible = np.ones(len(score), bool) if rows.eligible is None else np.asarray(rows.eligible[span])
    mine = np.flatnonzero(eligible)
    _, candidate = np.unique(rows.candidate[span][mine], return_inverse=True)
    group = period[mine] * (candidate.max(initial=0) + 1) + candidate
    found = np.zeros(len(score), bool)
    found[mine] = levels(score[mine], rows.tie[span][mine], group) <= top_n
    return found


def ratio_error(p: np.ndarray, y: np.ndarray, cluster: np.ndarray) -> float | None:
    """Standard error of sum(p) / sum(y) over clusters (linearised ratio; Liang & Zeger 1986)."""
    _, inverse = np.unique(cluster, return_inverse=True)
    clusters, total = int(inverse.max(initial=-1)) + 1, float(y.sum())
    if clusters < 2 or not total:
        return None
    residual = np.bincount(inverse, p - p.sum() / total * y)
    return float(np.sqrt(clusters / (clusters - 1) * (residual**2).sum()) / total)
