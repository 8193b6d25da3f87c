"""What every baseline is fitted on: the same dense encoded rows, checked the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffm_udf.rows import checked_labels, checked_weights, dense_rows
from ffm_udf.weights import mean_logloss

ROWS_AT_ONCE = 1 << 18  # a memory-mapped X is never copied whole


@dataclass(frozen=True)
class TrainingRows:
    """X int32 [n, n_fields], y int8 [n], weight float32 [n] (empty: all 1), `valid` (X, y) or None."""

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    valid: tuple[np.ndarray, np.ndarray] | None
    n_features: int

    @classmethod
    def checked(
        cls,
        X: np.ndarray,
        y: np.ndarray,
        eval_set: tuple[np.ndarray, np.ndarray] | None = None,
        sample_weight: np.ndarray | None = None,
        n_features: int | None = None,
    ) -> TrainingRows:
        """The arguments of a `fit`, checked. `n_features` is by default what X and eval_set need. ValueError if bad."""
        X = dense_rows(X, "X", None, n_features)
        labels, weight, valid = checked_labels(y, len(X)), checked_weights(sample_weight, len(X)), None
        if eval_set is not None:
            rows = dense_rows(eval_set[0], "eval_set X", X.shape[1], n_features)
            valid = rows, checked_labels(eval_set[1], len(rows), "eval_set y")
        highest = max(int(part.max()) for part in (X, *(valid[:1] if valid else ())))
        return cls(X, labels, weight, valid, n_features or highest + 1)

    @property
    def sample_weight(self) -> np.ndarray | None:
        """The weights as other libraries take them: None if all are 1."""
        return self.weight if len(self.weight) else None

    def valid_logloss(self, logits: Callable[[np.ndarray], np.ndarray]) -> Callable[[], float] | None:
        """What measures the mean logloss of `logits` on the validation rows; None without any."""
        if self.valid is None:
            return None
        X, y = self.valid
        return lambda: mean_logloss(logits(X), y)

    def seen(self) -> np.ndarray:
        """Which feature ids have a training row, bool [n_features]."""
        marks = np.zeros(self.n_features, bool)
        for part in chunks(len(self.X)):
            marks[self.X[part]] = True
        return marks


def chunks(n_rows: int) -> Iterator[slice]:
    """0..n_rows in slices of ROWS_AT_ONCE rows."""
    for first in range(0, n_rows, ROWS_AT_ONCE):
        yield slice(first, min(first + ROWS_AT_ONCE, n_rows))


def fitted(model: Any, attribute: str) -> Any:
    """`model.attribute`, which `fit` and `load` set; ValueError before them."""
    if not hasattr(model, attribute):
        raise ValueError(f"this {type(model).__name__} is not fitted: call fit or load one")
    return getattr(model, attribute)
