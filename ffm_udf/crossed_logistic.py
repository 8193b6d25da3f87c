"""Logistic regression with crosses: a weight per feature and one per hash bucket of feature pairs.

The crosses are hashed as they are read, so neither the pairs nor a design matrix ever exist: a library would need a
matrix of n · fields² / 2 entries (3.4 GB for 2.5M rows of 19 fields). Trained like FFM, with AdaGrad and early stopping
on validation rows (Duchi, Hazan, Singer 2011; hashing: Weinberger et al., ICML 2009).
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numba import njit
from numba.core import types

from ffm_udf import artifact
from ffm_udf.epochs import Epochs
from ffm_udf.kernels import array, compile_kernel, logistic, step_scalar
from ffm_udf.memory import check_memory
from ffm_udf.rows import dense_rows
from ffm_udf.training_rows import TrainingRows, fitted

KIND = "lr_cross"


def buckets_for(n_bytes: int, n_features: int) -> int:
    """How many hash buckets make the weights as large as `n_bytes`, an FFM's `nbytes_` for example."""
    buckets = n_bytes // 4 - n_features - 1
    if buckets < 1:
        raise ValueError(f"n_bytes must exceed the {4 * n_features + 4} of the uncrossed weights, got {n_bytes}")
    return buckets


@njit(error_model="numpy")
def columns_of(X, row, pairs, n_features, buckets, columns):
    """Fills `columns` with the weights that a row uses: 1 + id of its features, then a bucket for every pair.

    A pair's bucket is the SplitMix64 finaliser of both ids (Steele, Lea, Flood 2014), scaled to the buckets.
    """
    n_fields = X.shape[1]
    for a in range(n_fields):
        columns[a] = np.uint64(X[row, a]) + np.uint64(1)
    for p in range(pairs.shape[0]):
        key = (np.uint64(X[row, pairs[p, 0]]) << np.uint64(32)) | np.uint64(X[row, pairs[p, 1]])
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key = key ^ (key >> np.uint64(31))
        bucket = ((key >> np.uint64(32)) * np.uint64(buckets)) >> np.uint64(32)
        columns[n_fields + p] = np.uint64(n_features + 1) + bucket


@functools.cache
def trainer():
    """Kernel `train_crosses`."""

    def train_crosses(X, y, importance, order, pairs, n_features, buckets, eta, l2, columns, W):
        """One AdaGrad pass in `order`; updates W, float32 [1 + n_features + buckets, 2] of weights and their sums, in
        place (columns is scratch). Returns the summed logloss before each row's own step, and the summed importance."""
        size = columns.shape[0]
        scale = np.float32(1.0 / math.sqrt(size))  # every row has the norm 1, as in FFM
        loss = 0.0
        mass = 0.0
        for i in range(order.shape[0]):
            row = order[i]
            columns_of(X, row, pairs, n_features, buckets, columns)
            total = np.float32(0.0)
            for c in range(size):
                total += W[columns[c], 0]
            logit = W[0, 0] + scale * total
            weight = importance[row] if importance.shape[0] > 0 else np.float32(1.0)
            row_loss, slope = logistic(np.float64(logit), np.float64(y[row]))
            loss += weight * row_loss
            mass += weight
            kappa = np.float32(weight * slope)
            for c in range(size):
                step_scalar(W, columns[c], kappa * scale + l2 * W[columns[c], 0], eta)
            step_scalar(W, np.uint64(0), kappa, eta)
        return loss, mass

    signature = types.UniTuple(types.float64, 2)(
        array(types.int32, 2), array(types.int8, 1), array(types.float32, 1), array(types.int32, 1),
        array(types.int32, 2), types.int64, types.int64, types.float32, types.float32,
        array(types.uint64, 1, False), array(types.float32, 2, False))  # fmt: skip
    return compile_kernel(train_crosses, "pairs", signature)


@functools.cache
def scorer():
    """Kernel `score_crosses`."""

    def score_crosses(X, pairs, n_features, buckets, weights, columns, logits):
        """Fills `logits`; columns is scratch."""
        scale = np.float32(1.0 / math.sqrt(columns.shape[0]))
        for row in range(X.shape[0]):
            columns_of(X, row, pairs, n_features, buckets, columns)
            total = np.float32(0.0)
            for c in range(columns.shape[0]):
                total += weights[columns[c]]
            logits[row] = weights[0] + scale * total

    signature = types.void(
        array(types.int32, 2), array(types.int32, 2), types.int64, types.int64, array(types.float32, 1),
        array(types.uint64, 1, False), array(types.float32, 1, False))  # fmt: skip
    return compile_kernel(score_crosses, "pairs", signature)


@dataclass
class CrossedLogisticRegression:
    """Logistic regression on features and hashed feature pairs.

    buckets: weights shared by all pairs, 1..2^32 (`buckets_for` gives an equal memory). pairs: the pairs of fields
    (columns of X) to cross; None crosses all. eta, l2, epochs, patience, seed: as in `FFM`.

    After `fit`: weights_ float32 [1 + n_features + buckets] (bias, features, buckets), history_ and best_epoch_ as
    `FFM` has them, compile_seconds_.
    """

    buckets: int = 1 << 22
    pairs: Sequence[Sequence[int]] | None = None
    eta: float = 0.6
    l2: float = 2e-5
    epochs: int = 20
    patience: int | None = 2
    seed: int = 0

    def __post_init__(self):
        self.pairs = None if self.pairs is None else [list(pair) for pair in self.pairs]
        Epochs(self.epochs, self.patience, self.seed)
        rules = (
            ("buckets", 1 <= self.buckets <= 1 << 32, "in 1..2^32"),
            ("pairs", self.pairs is None or all(_is_pair(pair) for pair in self.pairs), "pairs of two columns of X"),
            ("eta", math.isfinite(self.eta) and self.eta > 0, "positive and finite"),
            ("l2", math.isfinite(self.l2) and self.l2 >= 0, "not negative and finite"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"{name} must be {rule}, got {getattr(self, name)!r}")

    def fit(self, X, y, eval_set=None, sample_weight=None, n_features=None):
        """X int32 [n, n_fields] of feature ids, y 0/1 [n]; returns self. Memory-mapped rows are read in place. Without
        eval_set, or with patience=None, all epochs are trained and the last is kept.

        Raises ValueError for bad input, MemoryError if the weights do not fit, FloatingPointError if training diverges.
        """
        rows = TrainingRows.checked(X, y, eval_set, sample_weight, n_features)
        pairs = self._pairs(rows.X.shape[1])
        size = 1 + rows.n_features + self.buckets
        check_memory(8 * size + 4 * len(rows.y), f"training {size:,} weights", "use fewer buckets")
        W = np.zeros((size, 2), np.float32)
        W[:, 1] = 1.0
        began = time.perf_counter()
        kernel, _ = trainer(), scorer()
        self.compile_seconds_ = time.perf_counter() - began
        shape = rows.n_features, self.buckets
        step = np.float32(self.eta), np.float32(self.l2)
        columns = np.zeros(rows.X.shape[1] + len(pairs), np.uint64)

        def one_pass(order):
            loss, mass = kernel(rows.X, rows.y, rows.weight, order, pairs, *shape, *step, columns, W)
            return loss / mass

        def snapshot():
            return W[:, 0].copy()

        valid_logloss = rows.valid_logloss(lambda X: _logits(X, pairs, *shape, snapshot()))

        self.weights_, self.history_, self.best_epoch_ = Epochs(self.epochs, self.patience, self.seed).run(
            len(rows.y), one_pass, valid_logloss, snapshot
        )
        self.n_fields_ = rows.X.shape[1]
        return self

    def _pairs(self, n_fields):
        chosen = list(itertools.combinations(range(n_fields), 2)) if self.pairs is None else self.pairs
        highest = max((max(pair) for pair in chosen), default=0)
        if highest >= n_fields:
            raise ValueError(f"pairs must be of columns of X, got column {highest} of {n_fields}")
        return np.array(chosen, np.int32).reshape(-1, 2)

    @property
    def n_features_(self):
        return len(fitted(self, "weights_")) - 1 - self.buckets

    def decision_function(self, X):
        """Logits, float32 [n]. Raises ValueError for rows that do not fit the model."""
        weights = fitted(self, "weights_")
        X = dense_rows(X, "X", self.n_fields_, self.n_features_)
        return _logits(X, self._pairs(self.n_fields_), self.n_features_, self.buckets, weights)

    @property
    def n_parameters_(self):
        """A weight per feature and bucket, and the bias."""
        return len(fitted(self, "weights_"))

    @property
    def nbytes_(self):
        """Bytes of the scoring array: float32 each."""
        return 4 * self.n_parameters_

    def save(self, path: Path | str) -> int:
        """Write lr_cross.json and the weights into the folder `path`; returns their bytes."""
        weights = fitted(self, "weights_")
        header = {
            "parameters": asdict(self),
            "n_fields": self.n_fields_,
            "history": self.history_,
            "best_epoch": self.best_epoch_,
            "compile_seconds": self.compile_seconds_,
        }
        return artifact.save(path, KIND, header, {"weights": weights})

    @classmethod
    def load(cls, path: Path | str):
        """The model in the folder `path`, its weights memory-mapped. Raises FileNotFoundError if there is none and
        ValueError if it is damaged or of another format version."""
        header, arrays = artifact.load(path, KIND)
        model = cls(**header["parameters"])
        model.weights_, model.n_fields_ = arrays["weights"], header["n_fields"]
        model.history_, model.best_epoch_ = header["history"], header["best_epoch"]
        model.compile_seconds_ = header["compile_seconds"]
        return model


def _is_pair(pair):
    return len(pair) == 2 and pair[0] != pair[1] and min(pair) >= 0


def _logits(X, pairs, n_features, buckets, weights):
    logits = np.empty(len(X), np.float32)
    columns = np.zeros(X.shape[1] + len(pairs), np.uint64)
    scorer()(X, pairs, n_features, buckets, weights, columns, logits)
    return logits
