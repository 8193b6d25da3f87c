"""What each pair of fields contributes to the spread of an FFM's logits, exactly.

logit = bias + sum of linear terms + sum of terms of pairs of fields (explain.py), so Var(logit) is the sum of the
Cov(term, logit): a term's share Cov(term, logit) / Var(logit) needs no sampling of orders, and the shares sum to 1
(G. Li et al., "Global sensitivity analysis for systems with independent and/or correlated inputs", J. Phys. Chem. A
114, 2010). For a sum it is also the Shapley value of the game whose value is the variance of the terms that are in it.
A share may be negative: such a term takes back what others say.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba.core import types

from ffm_udf.judged_rows import JudgedRows
from ffm_udf.kernels import array, compile_kernel
from ffm_udf.model import FFM
from ffm_udf.scoring import opened

CHUNK = 1 << 16


@functools.cache
def terms_kernel():
    """Kernel `add_terms`."""

    def add_terms(X, V, linear, bias, scale, sums, totals):
        """Adds the rows of X int32 [n, F] to `sums` float64 [T, 4] and `totals` float64 [3].

        V float32 [n_features, F, k], linear float64 [n_features], both unscaled; terms are the F linear ones, then the
        pairs a < b row by row. sums: term, term², |term|, term · logit; totals: rows, logit, logit².
        """
        n_rows, n_fields = X.shape
        k, n_terms = V.shape[2], sums.shape[0]
        terms = np.empty(n_terms)
        root = math.sqrt(scale)
        for row in range(n_rows):
            logit = bias
            for a in range(n_fields):
                terms[a] = root * linear[X[row, a]]
                logit += terms[a]
            at = n_fields
            for a in range(n_fields):
                i = X[row, a]
                for b in range(a + 1, n_fields):
                    j = X[row, b]
                    dot = 0.0
                    for f in range(k):
                        dot += np.float64(V[i, b, f]) * np.float64(V[j, a, f])
                    terms[at] = scale * dot
                    logit += terms[at]
                    at += 1
            for t in range(n_terms):
                sums[t, 0] += terms[t]
                sums[t, 1] += terms[t] * terms[t]
                sums[t, 2] += abs(terms[t])
                sums[t, 3] += terms[t] * logit
            totals[0] += 1.0
            totals[1] += logit
            totals[2] += logit * logit

    signature = types.void(
        array(types.int32, 2), array(types.float32, 3), array(types.float64, 1), types.float64, types.float64,
        array(types.float64, 2, False), array(types.float64, 1, False))  # fmt: skip
    return compile_kernel(add_terms, "float32", signature)


def term_sums(model: FFM, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`sums` float64 [F + F(F - 1) / 2, 4] and `totals` float64 [3] of the kernel for rows X int32 [n, F]."""
    weights, settings = model.fitted_weights(), model._settings()
    n_fields = weights.layout.n_fields
    sums, totals = np.zeros((n_fields * (n_fields + 1) // 2, 4)), np.zeros(3)
    vectors = np.ascontiguousarray(weights.vectors, np.float32)
    linear = weights.linear[:, 0].astype(np.float64) * float(settings.linear)
    scale = 1.0 / n_fields if settings.normalize else 1.0
    for start in range(0, len(X), CHUNK):
        part = np.ascontiguousarray(X[start : start + CHUNK], np.int32)
        terms_kernel()(part, vectors, linear, float(weights.constant(settings)), scale, sums, totals)
    return sums, totals


def importance(fields: list[str], sums: np.ndarray, totals: np.ndarray) -> list[dict[str, Any]]:
    """Per term: `field_a`, `field_b` (None for a linear one), `share` of Var(logit), its own `variance` and
    `mean_abs`. Shares are 0 where all logits are equal."""
    n, mean = totals[0], totals[1] / max(totals[0], 1.0)
    spread = totals[2] / max(n, 1.0) - mean**2
    average = sums / max(n, 1.0)
    covariance = average[:, 3] - average[:, 0] * mean
    variance = np.maximum(average[:, 1] - average[:, 0] ** 2, 0.0)
    pairs = [(a, b) for i, a in enumerate(fields) for b in fields[i + 1 :]]
    names: list[tuple[str, str | None]] = [*((name, None) for name in fields), *pairs]
    return [
        {
            "field_a": a,
            "field_b": b,
            "share": float(covariance[t] / spread) if spread > 0 else 0.0,
            "variance": float(variance[t]),
            "mean_abs": float(average[t, 2]),
        }
        for t, (a, b) in enumerate(names)
    ]


def of_model(task: dict[str, Any]) -> list[dict[str, Any]]:
    """`importance` of the FFM in `folder` on at most `limit` test rows drawn with `seed`, each with `n` rows and the
    `logit_variance`. task also: folder judged."""
    rows = JudgedRows.open(task["judged"])
    test = rows.splits["test"]
    found = np.arange(test.start, test.stop)
    if len(found) > task["limit"]:
        found = np.sort(np.random.default_rng(task["seed"]).choice(found, task["limit"], replace=False))
    model = opened(task["folder"]).model
    if not isinstance(model, FFM):
        raise ValueError(f"field pairs need an FFM, got {type(model).__name__} in {task['folder']}")
    sums, totals = term_sums(model, rows.X[found])
    spread = float(totals[2] / totals[0] - (totals[1] / totals[0]) ** 2)
    return [row | {"n": len(found), "logit_variance": spread} for row in importance(rows.fields, sums, totals)]
