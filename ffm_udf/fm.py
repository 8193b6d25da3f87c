"""Factorization machine: one latent vector per feature, whatever the field of the partner (Rendle, ICDM 2010).

Made of FFM's primitives: the same SIMD step, AdaGrad sums per vector, instance normalisation, bias and linear terms, so
that FM and FFM differ in the field-awareness only. As a feature meets all partners with one vector, their sum is enough
and a row costs fields · k instead of fields² · k.
"""

from __future__ import annotations

import functools
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numba.core import types

from ffm_udf import artifact
from ffm_udf.epochs import Epochs
from ffm_udf.kernels import array, compile_kernel, logistic, step_scalar
from ffm_udf.layout import empty_blocks, padded_width
from ffm_udf.memory import check_memory
from ffm_udf.rows import dense_rows
from ffm_udf.simd import load, multiply_add, total, update, zeros
from ffm_udf.training_rows import TrainingRows, fitted

KIND = "fm"
START = (-0.3, 0.3)  # of the first sqrt(k) · v


@functools.cache
def trainer(K):
    """Kernel `train_fm` for the SIMD width K."""

    def train_fm(X, y, importance, order, k, eta, l2, one, V, linear):
        """One AdaGrad pass in `order`; returns the summed logloss before each row's step, and the summed importance.

        Updates in place V, float32 of n_features vectors of K lanes and then n_features sums, and linear, float32
        [1 + n_features, 2] of bias and linear weights, each with its sum. `one` holds K ones.
        """
        n_fields, n_features = X.shape[1], linear.shape[0] - 1
        scale = np.float32(1.0 / n_fields)
        root = np.float32(math.sqrt(1.0 / n_fields))
        inverse_k = np.float32(1.0 / k)
        loss = 0.0
        mass = 0.0
        for i in range(order.shape[0]):
            row = order[i]
            others = zeros(K)  # sum of the vectors so far
            pairs = zeros(K)
            straight = np.float32(0.0)
            for a in range(n_fields):
                v = load(V, np.int64(X[row, a]) * K, K)
                pairs = multiply_add(others, v, pairs)
                others = multiply_add(v, load(one, 0, K), others)
                straight += linear[np.uint32(X[row, a]) + np.uint32(1), 0]
            logit = linear[0, 0] + root * straight + scale * total(pairs)
            weight = importance[row] if importance.shape[0] > 0 else np.float32(1.0)
            row_loss, slope = logistic(np.float64(logit), np.float64(y[row]))
            loss += weight * row_loss
            mass += weight
            kappa = np.float32(weight * slope)
            pair_kappa = kappa * scale
            for a in range(n_fields):
                j = np.int64(X[row, a])
                # The partners of v are `others` without v itself: kappa (others - v) + l2 v.
                own_l2 = l2 - pair_kappa
                update(others, pair_kappa, eta, own_l2, inverse_k, 0, K, V, j * K, n_features * K + j)
                own = np.uint32(X[row, a]) + np.uint32(1)
                step_scalar(linear, own, kappa * root + l2 * linear[own, 0], eta)
            step_scalar(linear, 0, kappa, eta)
        return loss, mass

    signature = types.UniTuple(types.float64, 2)(
        array(types.int32, 2), array(types.int8, 1), array(types.float32, 1), array(types.int32, 1), types.int64,
        types.float32, types.float32, array(types.float32, 1), array(types.float32, 1, False),
        array(types.float32, 2, False))  # fmt: skip
    return compile_kernel(train_fm, f"K{K}", signature)


@functools.cache
def scorer(K):
    """Kernel `score_fm` for the SIMD width K."""

    def score_fm(X, one, V, linear, logits):
        """Fills `logits` from V, float32 of n_features vectors of K lanes, and linear, float32 [1 + n_features, 1]."""
        n_rows, n_fields = X.shape
        scale = np.float32(1.0 / n_fields)
        root = np.float32(math.sqrt(1.0 / n_fields))
        for row in range(n_rows):
            others = zeros(K)
            pairs = zeros(K)
            straight = np.float32(0.0)
            for a in range(n_fields):
                v = load(V, np.int64(X[row, a]) * K, K)
                pairs = multiply_add(others, v, pairs)
                others = multiply_add(v, load(one, 0, K), others)
                straight += linear[np.uint32(X[row, a]) + np.uint32(1), 0]
            logits[row] = linear[0, 0] + root * straight + scale * total(pairs)

    signature = types.void(
        array(types.int32, 2), array(types.float32, 1), array(types.float32, 1), array(types.float32, 2),
        array(types.float32, 1, False))  # fmt: skip
    return compile_kernel(score_fm, f"K{K}", signature)


@dataclass
class FM:
    """Factorization machine with bias and linear terms, on rows divided by their norm; parameters as in `FFM`.

    An id without training rows has the mean first vector, so nothing scores at random. After `fit`: vectors_ float32
    [n_features, K] (k padded to the SIMD width K), linear_ float32 [1 + n_features, 1] (bias first), history_,
    best_epoch_ and compile_seconds_ as `FFM` has them.
    """

    k: int = 8
    eta: float = 0.2
    l2: float = 2e-5
    epochs: int = 20
    patience: int | None = 4
    seed: int = 0

    def __post_init__(self):
        Epochs(self.epochs, self.patience, self.seed)
        rules = (
            ("k", 1 <= self.k <= 128, "in 1..128"),
            ("eta", math.isfinite(self.eta) and self.eta > 0, "positive and finite"),
            ("l2", math.isfinite(self.l2) and self.l2 >= 0, "not negative and finite"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"{name} must be {rule}, got {getattr(self, name)!r}")

    def fit(self, X, y, eval_set=None, sample_weight=None, n_features=None):
        """X int32 [n, n_fields] of feature ids, y 0/1 [n]; returns self. Memory-mapped rows are read in place.

        Raises ValueError for bad input, MemoryError if the model does not fit, FloatingPointError if training diverges.
        """
        rows = TrainingRows.checked(X, y, eval_set, sample_weight, n_features)
        n, K = rows.n_features, padded_width(self.k)
        check_memory(4 * n * (2 * K + 4) + 4 * len(rows.y), f"training {n:,} vectors of k={self.k}", "use a smaller k")
        began = time.perf_counter()
        kernel, _ = trainer(K), scorer(K)
        self.compile_seconds_ = time.perf_counter() - began
        V, linear = self._start(rows, K)
        step = int(self.k), np.float32(self.eta), np.float32(self.l2), np.ones(K, np.float32)

        def one_pass(order):
            loss, mass = kernel(rows.X, rows.y, rows.weight, order, *step, V, linear)
            return loss / mass

        def snapshot():
            return V[: n * K].reshape(n, K).copy(), linear[:, :1].copy()

        valid_logloss = rows.valid_logloss(lambda X: _logits(X, V[: n * K], linear, K))

        best, self.history_, self.best_epoch_ = Epochs(self.epochs, self.patience, self.seed).run(
            len(rows.y), one_pass, valid_logloss, snapshot
        )
        (self.vectors_, self.linear_), self.n_fields_ = best, rows.X.shape[1]
        return self

    def _start(self, rows, K):
        n, low, high = rows.n_features, *START
        V = empty_blocks(n * (K + 1))
        V[n * K :] = 1.0
        vectors = V[: n * K].reshape(n, K)
        vectors[:, self.k :] = 0.0
        draws = np.random.default_rng([self.seed, 0]).random((n, self.k), dtype=np.float32)
        vectors[:, : self.k] = (low + (high - low) * draws) / math.sqrt(self.k)
        vectors[~rows.seen(), : self.k] = (low + high) / 2 / math.sqrt(self.k)
        linear = np.zeros((n + 1, 2), np.float32)
        linear[:, 1] = 1.0
        return V, linear

    def decision_function(self, X):
        """Logits, float32 [n]. Raises ValueError for rows that do not fit the model."""
        vectors = fitted(self, "vectors_")
        X = dense_rows(X, "X", self.n_fields_, len(vectors))
        return _logits(X, vectors.reshape(-1), self.linear_, vectors.shape[1])

    @property
    def n_parameters_(self):
        """k and a linear weight for every feature, and the bias."""
        return len(fitted(self, "vectors_")) * (self.k + 1) + 1

    @property
    def nbytes_(self):
        """Bytes of the scoring arrays: float32, k padded to the SIMD width."""
        return fitted(self, "vectors_").nbytes + self.linear_.nbytes

    def save(self, path: Path | str) -> int:
        """Write fm.json and the arrays into the folder `path`; returns their bytes."""
        arrays = {"vectors": fitted(self, "vectors_"), "linear": self.linear_}
        header = {
            "parameters": asdict(self),
            "n_fields": self.n_fields_,
            "history": self.history_,
            "best_epoch": self.best_epoch_,
            "compile_seconds": self.compile_seconds_,
        }
        return artifact.save(path, KIND, header, arrays)

    @classmethod
    def load(cls, path: Path | str):
        """The model in the folder `path`, its arrays memory-mapped. Raises FileNotFoundError if there is none and
        ValueError if it is damaged or of another format version."""
        header, arrays = artifact.load(path, KIND)
        model = cls(**header["parameters"])
        model.vectors_, model.linear_, model.n_fields_ = arrays["vectors"], arrays["linear"], header["n_fields"]
        model.history_, model.best_epoch_ = header["history"], header["best_epoch"]
        model.compile_seconds_ = header["compile_seconds"]
        return model


def _logits(X, flat, linear, K):
    logits = np.empty(len(X), np.float32)
    scorer(K)(X, np.ones(K, np.float32), flat, linear, logits)
    return logits
