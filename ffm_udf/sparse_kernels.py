"""FFM kernels for general rows: missing fields, several features of one field, real values.

Row i has the entries indptr[i] .. indptr[i + 1] - 1 of field, feature and value. As in libffm, all pairs of entries
count, also two of one field; they are updated one pair after the other, each pair with the weights it finds; an entry
whose feature the model does not have is left out of the sums but counts in R. Layout: kernels.py.
"""

import functools
import math

import numpy as np
from numba import njit
from numba.core import types

from ffm_udf.kernels import BLOCK, SETTINGS, array, compile_kernel, logistic, step_scalar
from ffm_udf.layout import LANES
from ffm_udf.simd import lanes, load, multiply_add, prefetch, scaled, total, update, zeros


@njit(error_model="numpy")
def row_scale(value, start, stop, normalize):
    """R of the row in float64 (tiny values overflow float32); 1 if there is nothing to normalise by."""
    if not normalize:
        return 1.0
    norm = 0.0
    for p in range(start, stop):
        norm += np.float64(value[p]) * value[p]
    return 1.0 / norm if norm > 0.0 else 1.0


@njit(error_model="numpy")
def row_logit(field, feature, value, start, stop, n_features, scale, settings, block, W, linear, bias, none):
    """Logit of the entries start .. stop - 1; `none` is a zero vector of the model's SIMD width."""
    logit = np.float32(0.0)
    if settings.linear:
        root = math.sqrt(scale)
        for p in range(start, stop):
            if feature[p] < n_features:
                logit += linear[np.uint32(feature[p]), 0] * np.float32(root * value[p])
    if settings.bias:
        logit += bias[0, 0]
    pairs = none
    for p in range(start, stop):
        own = np.int64(feature[p]) * block.stride
        for q in range(p + 1, stop):
            if feature[p] < n_features and feature[q] < n_features:
                u = load(W, own + field[q] * lanes(none), none)
                v = load(W, np.int64(feature[q]) * block.stride + field[p] * lanes(none), none)
                pairs = multiply_add(scaled(u, np.float32(scale * value[p] * value[q])), v, pairs)
    return logit + total(pairs)


@functools.cache
def sparse_trainer(K, sums):
    """Kernel `train_sparse` for the SIMD width K and AdaGrad sums per "vector" or per "weight"."""
    EACH = int(sums == "weight")
    S = K if EACH else 1  # sums of a vector

    def train_sparse(indptr, field, feature, value, y, importance, order, settings, block, W, linear, bias):
        """One AdaGrad pass in `order`. Updates W, linear and bias in place; returns the summed logloss before each
        row's own step, and the summed importance."""
        eta, l2 = settings.eta, settings.l2
        stride, width = block.stride, block.sum_offset
        n_features = linear.shape[0]
        inverse_k = np.float32(1.0 / settings.k)
        loss = 0.0
        mass = 0.0
        for i in range(order.shape[0]):
            row = order[i]
            ahead = order[min(i + 1, order.shape[0] - 1)]
            start, stop = indptr[row], indptr[row + 1]
            scale = row_scale(value, start, stop, settings.normalize)
            logit = row_logit(
                field, feature, value, start, stop, n_features, scale, settings, block, W, linear, bias, zeros(K)
            )
            weight = importance[row] if importance.shape[0] > 0 else np.float32(1.0)
            row_loss, slope = logistic(np.float64(logit), np.float64(y[row]))
            loss += weight * row_loss
            mass += weight
            kappa = np.float32(weight * slope)
            for p in range(indptr[ahead], indptr[ahead + 1]):
                for line in range(0, stride, LANES):
                    prefetch(W, np.int64(feature[p]) * stride + line)
            for p in range(start, stop):
                own = np.int64(feature[p]) * stride
                for q in range(p + 1, stop):
                    other = np.int64(feature[q]) * stride
                    pair_kappa = kappa * np.float32(scale * value[p] * value[q])
                    u = load(W, own + field[q] * K, K)
                    v = load(W, other + field[p] * K, K)
                    mine, theirs = own + width + field[q] * S, other + width + field[p] * S
                    update(v, pair_kappa, eta, l2, inverse_k, EACH, K, W, own + field[q] * K, mine)
                    update(u, pair_kappa, eta, l2, inverse_k, EACH, K, W, other + field[p] * K, theirs)
            if settings.linear:
                root = math.sqrt(scale)
                for p in range(start, stop):
                    j = np.uint32(feature[p])
                    step_scalar(linear, j, kappa * np.float32(root * value[p]) + l2 * linear[j, 0], eta)
            if settings.bias:
                step_scalar(bias, 0, kappa, eta)
        return loss, mass

    signature = types.UniTuple(types.float64, 2)(
        array(types.int64, 1), array(types.int32, 1), array(types.int32, 1), array(types.float32, 1),
        array(types.int8, 1), array(types.float32, 1), array(types.int32, 1), SETTINGS, BLOCK,
        array(types.float32, 1, False), array(types.float32, 2, False), array(types.float32, 2, False))  # fmt: skip
    return compile_kernel(train_sparse, f"K{K}-{sums}", signature)


@functools.cache
def sparse_scorer(K, storage):
    """Kernel `score_sparse` for the SIMD width K; `storage` of W is "float32" or "float16"."""

    def score_sparse(indptr, field, feature, value, settings, block, W, linear, bias, logits):
        """Fills `logits`."""
        n_features = linear.shape[0]
        for row in range(logits.shape[0]):
            start, stop = indptr[row], indptr[row + 1]
            scale = row_scale(value, start, stop, settings.normalize)
            logits[row] = row_logit(
                field, feature, value, start, stop, n_features, scale, settings, block, W, linear, bias, zeros(K)
            )

    blocks = array(types.uint16 if storage == "float16" else types.float32, 1)
    signature = types.void(
        array(types.int64, 1), array(types.int32, 1), array(types.int32, 1), array(types.float32, 1), SETTINGS, BLOCK,
        blocks, array(types.float32, 2), array(types.float32, 2), array(types.float32, 1, False))  # fmt: skip
    return compile_kernel(score_sparse, f"K{K}-{storage}", signature)
