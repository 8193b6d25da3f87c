"""Logistic regression on the one-hot rows: scikit-learn's solver, its strength chosen on validation rows.

Needs scikit-learn (the extra `jobs`) to fit; a loaded model scores with NumPy alone.
"""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffm_udf import artifact
from ffm_udf.memory import check_memory
from ffm_udf.rows import dense_rows
from ffm_udf.training_rows import TrainingRows, chunks, fitted
from ffm_udf.weights import mean_logloss

KIND = "lr"


@dataclass
class LogisticRegression:
    """L2-regularised logistic regression: minimises |w|² / 2 + C · Σ weight · logloss; the bias is free.

    grid: the values of C, best guess first. With an eval_set every one is fitted, from the smallest up and each from
    the solution before it, and the best on eval_set is kept, so len(grid) is the tuning budget; without one the first
    is used. iterations, tolerance: of L-BFGS, per value of C.

    After `fit`: weights_ float32 [1 + n_features] (bias, then one per feature id), C_, trials_ (one dict per value: C,
    valid_logloss, iterations, seconds). history_ is empty: an L-BFGS iteration is not a pass that could be stopped at.
    """

    grid: tuple[float, ...] = (0.1, 0.03, 0.3)
    iterations: int = 300
    tolerance: float = 1e-6

    def __post_init__(self):
        self.grid = tuple(self.grid)
        if not self.grid or any(not (math.isfinite(C) and C > 0) for C in self.grid):
            raise ValueError(f"grid must hold positive, finite values of C, got {self.grid}")
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")
        if not (math.isfinite(self.tolerance) and self.tolerance > 0):
            raise ValueError(f"tolerance must be positive and finite, got {self.tolerance}")
        self.history_: list[dict[str, Any]] = []
        self.best_epoch_ = 0

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        eval_set: tuple[np.ndarray, np.ndarray] | None = None,
        sample_weight: np.ndarray | None = None,
        n_features: int | None = None,
    ) -> LogisticRegression:
        """X int32 [n, n_fields] of feature ids, y 0/1 [n]; returns self. Beside the arguments 4 bytes per entry of X
        are allocated. Raises ValueError for bad input or if y has one class only, MemoryError if the rows do not fit.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression as Solver

        rows = TrainingRows.checked(X, y, eval_set, sample_weight, n_features)
        if rows.y.min() == rows.y.max():
            raise ValueError(f"y must have both classes for a logistic regression, got only {rows.y[0]}")
        design, trials, best = one_hot(rows.X, rows.n_features), [], math.inf
        solver = Solver(max_iter=self.iterations, tol=self.tolerance, warm_start=True)
        for C in sorted(self.grid) if rows.valid else self.grid[:1]:
            began = time.perf_counter()
            with warnings.catch_warnings():
                # The tuned optimum is on eval_set, not on the training rows: stopping early is no fault.
                warnings.simplefilter("ignore", ConvergenceWarning)
                solver.set_params(C=C).fit(design, rows.y, rows.sample_weight)
            seconds = time.perf_counter() - began
            weights = np.concatenate([solver.intercept_, solver.coef_[0]]).astype(np.float32)
            loss = mean_logloss(linear_logits(rows.valid[0], weights), rows.valid[1]) if rows.valid else None
            trials.append({"C": C, "valid_logloss": loss, "iterations": int(solver.n_iter_[0]), "seconds": seconds})
            if loss is None or loss < best:
                best, self.C_, self.weights_ = loss if loss is not None else best, C, weights
        self.trials_, self.n_fields_ = trials, rows.X.shape[1]
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Logits, float32 [n]. Raises ValueError for rows that do not fit the model."""
        weights = fitted(self, "weights_")
        return linear_logits(dense_rows(X, "X", self.n_fields_, len(weights) - 1), weights)

    @property
    def n_parameters_(self) -> int:
        """A weight per feature and the bias."""
        return len(fitted(self, "weights_"))

    @property
    def nbytes_(self) -> int:
        """Bytes of the scoring array: float32 each."""
        return 4 * self.n_parameters_

    def save(self, path: Path | str) -> int:
        """Write lr.json and the weights into the folder `path`; returns their bytes."""
        weights = fitted(self, "weights_")
        about = {"parameters": asdict(self), "n_fields": self.n_fields_, "C": self.C_, "trials": self.trials_}
        return artifact.save(path, KIND, about, {"weights": weights})

    @classmethod
    def load(cls, path: Path | str) -> LogisticRegression:
        """The model in the folder `path`, its weights memory-mapped. Raises FileNotFoundError if there is none and
        ValueError if it is damaged or of another format version."""
        header, arrays = artifact.load(path, KIND)
        model = cls(**header["parameters"])
        model.weights_, model.n_fields_ = arrays["weights"], header["n_fields"]
        model.C_, model.trials_ = header["C"], header["trials"]
        return model


def one_hot(X: np.ndarray, n_features: int) -> Any:
    """The dense rows as a CSR matrix of float32 ones [n, n_features]; its indices are X itself, not a copy."""
    from scipy.sparse import csr_matrix

    check_memory(4 * X.size, f"a one-hot matrix of {len(X):,} rows x {X.shape[1]} fields", "use fewer rows")
    pointers = np.arange(0, X.size + 1, X.shape[1], dtype=np.int32 if X.size < 2**31 else np.int64)
    return csr_matrix((np.ones(X.size, np.float32), X.reshape(-1), pointers), shape=(len(X), n_features), copy=False)


def linear_logits(X: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """weights[0] plus the weights 1 + id of each row's features, float32 [n]."""
    logits = np.empty(len(X), np.float32)
    for part in chunks(len(X)):
        logits[part] = weights[1:][X[part]].sum(axis=1, dtype=np.float64) + weights[0]
    return logits
