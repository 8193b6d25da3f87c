"""A score as the sum of its terms."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Explanation:
    """logit = bias + sum of linear + sum of pairs, all float64.

    bias: the constant term (see Weights.constant). linear [n_fields]: term of each field's features. pairs [n_fields,
    n_fields]: term of each pair of fields, above the diagonal (on it: several features of one field).
    """

    logit: float
    bias: float
    linear: np.ndarray
    pairs: np.ndarray


def explain(weights, row, settings):
    """Explanation of one FieldRows row of known ids, from the formula of kernels.py in float64."""
    n_fields = weights.layout.n_fields
    vectors, value = weights.vectors, row.value.astype(np.float64)
    norm = float(value @ value)
    scale = 1.0 / norm if settings.normalize and norm > 0.0 else 1.0
    linear, pairs = np.zeros(n_fields), np.zeros((n_fields, n_fields))
    if settings.linear:
        np.add.at(linear, row.field, math.sqrt(scale) * weights.linear[row.feature, 0].astype(np.float64) * value)
    for p in range(len(value)):
        for q in range(p + 1, len(value)):
            f, g = row.field[p], row.field[q]
            v, w = vectors[row.feature[p], g].astype(np.float64), vectors[row.feature[q], f].astype(np.float64)
            pairs[min(f, g), max(f, g)] += scale * float(v @ w) * value[p] * value[q]
    bias = float(weights.constant(settings))
    return Explanation(bias + float(linear.sum()) + float(pairs.sum()), bias, linear, pairs)
