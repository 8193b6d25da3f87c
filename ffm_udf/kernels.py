"""FFM kernels: arrays in, numbers and arrays out. They never raise, print or allocate per row.

Memory layout (said here once). `k` latent factors are padded to a SIMD width K (1, 2, 4 ... 128), fields to Fp so that
Fp * K fills whole chunks of 16 lanes. A feature owns one block of `stride` float32, aligned to 64 bytes, in the flat
array W; for feature j it starts at j * stride:

    [ v_{j,0} | v_{j,1} | ... | v_{j,Fp-1} ]  Fp vectors of K lanes: v_{j,f} meets features of field f
    [ s_0 ... s_{Fp-1} ]                      AdaGrad sums at `sum_offset`: one per vector, or Fp * K, one per weight

Padding lanes and padding fields are zero and stay zero. A model that only scores has no sums: stride = Fp * K.
`linear` is float32 [n_features, 2] (w_j, its sum) or [n_features, 1] (w_j); `bias` is float32 [2] (b, its sum).

logit = b + sqrt(R) sum_j w_j x_j + R sum_{j<l} <v_{j,f(l)}, v_{l,f(j)}> x_j x_l,  R = 1 / sum_j x_j^2 if normalised.
FFM: Juan, Zhuang, Chin, Lin, "Field-aware factorization machines for CTR prediction", RecSys 2016, section 3.
This file has the dense kernels (column f of X holds the one feature of field f, all values 1); sparse_kernels.py has
the general ones. Both are made of the same primitives (simd.py).
"""

import functools
import hashlib
import importlib.resources
import math
from collections import namedtuple

import numpy as np
from numba import njit
from numba.core import types

from ffm_udf.layout import LANES
from ffm_udf.simd import load, multiply_add, prefetch, store, total, update, zeros

# The kernels do not look at `offset`: Weights.constant adds it to the bias that they are given for scoring.
Settings = namedtuple("Settings", "eta l2 k normalize linear bias offset", defaults=(np.float32(0.0),))
Block = namedtuple("Block", "stride sum_offset")
SETTINGS = types.NamedTuple([types.float32, types.float32, types.int64, *[types.boolean] * 3, types.float32], Settings)
BLOCK = types.NamedUniTuple(types.int64, 2, Block)
AHEAD, FAR_AHEAD = 3, 16  # rows: weights are asked for so long before their use, ids and labels of shuffled rows longer
SOURCES = ("simd.py", "layout.py", "kernels.py", "sparse_kernels.py")


@functools.cache
def source_key():
    """Hash of every file whose code ends up in a kernel. numba's own cache only looks at the file of the function
    and would keep a kernel whose imported primitives were edited."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update(importlib.resources.files(__package__).joinpath(name).read_bytes())
    return digest.hexdigest()[:12]


def array(dtype, ndim, readonly=True):
    """numba type of a C-ordered array; a read-only parameter takes memory-mapped arrays as well."""
    return types.Array(dtype, ndim, "C", readonly=readonly)


def compile_kernel(function, variant, signature):
    """Compiles `function` for one signature, or loads it from numba's cache.

    The cache files carry variant and source key in their names, so one file holds one signature of one source. numba
    numbers the signatures of a file without a lock: two processes that compile different ones at the same time could
    otherwise end up with each other's machine code. Where nothing can be cached (no writable folder) each process
    compiles for itself.
    """
    function.__qualname__ = f"{function.__name__}-{variant}-{source_key()}"
    try:
        return njit(signature, cache=True, error_model="numpy", nogil=True)(function)
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
        return njit(signature, error_model="numpy", nogil=True)(function)


@njit(error_model="numpy")
def logistic(z, y):
    """Logloss of the logit z and its derivative p - y, without overflow for any finite z."""
    tail = math.exp(-abs(z))
    p = 1.0 / (1.0 + tail) if z >= 0.0 else tail / (1.0 + tail)
    return max(z, 0.0) - y * z + math.log1p(tail), p - y


@njit(error_model="numpy")
def step_scalar(weights, index, gradient, eta):
    """AdaGrad step on the scalar weights[index, 0], whose sum is weights[index, 1]."""
    after = weights[index, 1] + gradient * gradient
    weights[index, 1] = after
    weights[index, 0] -= eta * gradient / np.float32(math.sqrt(after))


@functools.cache
def dense_trainer(K, sums):
    """Kernel `train_dense` for the SIMD width K and AdaGrad sums per "vector" or per "weight".

    Narrow vectors (K < 16): the row's partner vectors are first gathered into `partners`, so that a whole chunk of
    16 / K vectors is updated at once. Wider vectors fill a register alone and are updated pair by pair in place.
    """
    N = max(K, LANES)
    EACH = int(sums == "weight")
    P = N if EACH else N // K  # sums of a chunk
    S = K if EACH else 1  # sums of a vector
    GATHER = K < LANES

    def train_dense(X, y, importance, order, settings, block, offsets, partners, W, linear, bias):
        """One AdaGrad pass in `order`. Updates W, linear and bias in place (offsets and partners are scratch);
        returns the summed logloss before each row's own step, and the summed importance."""
        eta, l2 = settings.eta, settings.l2
        stride, width = block.stride, block.sum_offset
        n_rows, n_fields = order.shape[0], X.shape[1]
        scale = np.float32(1.0 / n_fields) if settings.normalize else np.float32(1.0)
        linear_scale = np.float32(math.sqrt(scale))
        inverse_k = np.float32(1.0 / settings.k)
        loss = 0.0
        mass = 0.0
        for i in range(n_rows):
            row = order[i]
            ahead = order[min(i + AHEAD, n_rows - 1)]
            far = np.int64(order[min(i + FAR_AHEAD, n_rows - 1)])
            prefetch(X, far * n_fields)
            prefetch(X, far * n_fields + n_fields - 1)
            prefetch(y, far)
            logit = np.float32(0.0)
            for a in range(n_fields):
                offsets[a] = np.int64(X[row, a]) * stride
            if settings.linear:
                for a in range(n_fields):
                    logit += linear[np.uint32(X[row, a]), 0]
                logit *= linear_scale
            if settings.bias:
                logit += bias[0, 0]
            even = zeros(K)  # two sums: the additions of one would wait for each other
            odd = zeros(K)
            for a in range(n_fields):
                for b in range(a + 1, n_fields):
                    u = load(W, offsets[a] + b * K, K)
                    v = load(W, offsets[b] + a * K, K)
                    even, odd = odd, multiply_add(u, v, even)
                    if GATHER:
                        store(partners, a * width + b * K, v)
                        store(partners, b * width + a * K, u)
            logit += scale * (total(even) + total(odd))
            weight = importance[row] if importance.shape[0] > 0 else np.float32(1.0)
            row_loss, slope = logistic(np.float64(logit), np.float64(y[row]))
            loss += weight * row_loss
            mass += weight
            kappa = np.float32(weight * slope)
            pair_kappa = kappa * scale
            for a in range(n_fields):
                own = offsets[a]
                own_sums = own + width
                coming = np.int64(X[ahead, a]) * stride
                for line in range(0, stride, LANES):
                    prefetch(W, coming + line)
                if GATHER:
                    # whole chunks also touch the slot of the row's own field, which has no partner: keep it
                    kept = load(W, own + a * K, K)
                    kept_sums = load(W, own_sums + a * S, S)
                    for c in range(width // N):
                        partner = load(partners, a * width + c * N, N)
                        update(partner, pair_kappa, eta, l2, inverse_k, EACH, K, W, own + c * N, own_sums + c * P)
                    store(W, own + a * K, kept)
                    store(W, own_sums + a * S, kept_sums)
                else:
                    for b in range(a + 1, n_fields):
                        other = offsets[b] + a * K
                        other_sums = offsets[b] + width + a * S
                        u = load(W, own + b * K, K)
                        v = load(W, other, K)
                        update(v, pair_kappa, eta, l2, inverse_k, EACH, K, W, own + b * K, own_sums + b * S)
                        update(u, pair_kappa, eta, l2, inverse_k, EACH, K, W, other, other_sums)
            if settings.linear:
                for a in range(n_fields):
                    j = np.uint32(X[row, a])
                    step_scalar(linear, j, kappa * linear_scale + l2 * linear[j, 0], eta)
            if settings.bias:
                step_scalar(bias, 0, kappa, eta)
        return loss, mass

    signature = types.UniTuple(types.float64, 2)(
        array(types.int32, 2), array(types.int8, 1), array(types.float32, 1), array(types.int32, 1), SETTINGS, BLOCK,
        array(types.int64, 1, False), array(types.float32, 1, False), array(types.float32, 1, False),
        array(types.float32, 2, False), array(types.float32, 2, False))  # fmt: skip
    return compile_kernel(train_dense, f"K{K}-{sums}", signature)


@functools.cache
def dense_scorer(K, storage):
    """Kernel `score_dense` for the SIMD width K; `storage` of W is "float32" or "float16"."""
    HALF = storage == "float16"
    LINE = 64 // (2 if HALF else 4)

    def score_dense(X, settings, block, W, linear, bias, offsets, logits):
        """Fills `logits`; offsets is scratch."""
        stride, width = block.stride, block.sum_offset
        n_rows, n_fields = X.shape
        scale = np.float32(1.0 / n_fields) if settings.normalize else np.float32(1.0)
        linear_scale = np.float32(math.sqrt(scale))
        for row in range(n_rows):
            ahead = min(row + AHEAD, n_rows - 1)
            logit = np.float32(0.0)
            for a in range(n_fields):
                offsets[a] = np.int64(X[row, a]) * stride
            if settings.linear:
                for a in range(n_fields):
                    logit += linear[np.uint32(X[row, a]), 0]
                logit *= linear_scale
            if settings.bias:
                logit += bias[0, 0]
            even = zeros(K)
            odd = zeros(K)
            for a in range(n_fields):
                coming = np.int64(X[ahead, a]) * stride
                for line in range(0, width, LINE):
                    prefetch(W, coming + line)
                for b in range(a + 1, n_fields):
                    u = load(W, offsets[a] + b * K, K)
                    v = load(W, offsets[b] + a * K, K)
                    even, odd = odd, multiply_add(u, v, even)
            logits[row] = logit + scale * (total(even) + total(odd))

    blocks = array(types.uint16 if HALF else types.float32, 1)
    signature = types.void(
        array(types.int32, 2), SETTINGS, BLOCK, blocks, array(types.float32, 2), array(types.float32, 2),
        array(types.int64, 1, False), array(types.float32, 1, False))  # fmt: skip
    return compile_kernel(score_dense, f"K{K}-{storage}", signature)
