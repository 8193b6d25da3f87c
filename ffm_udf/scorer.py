"""The one door for every model that turns encoded rows into logits: FFM, what it is compared with, and the heuristic.

All are fitted on the same rows, X int32 [n, n_fields] of global feature ids, are saved as a folder without pickle, and
pass one conformance test. Fitting `lr` needs scikit-learn and `lightgbm` LightGBM (the extra `jobs`); the rest, and
scoring with `lr`, need the base install only.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from ffm_udf.boosted_trees import BoostedTrees
from ffm_udf.crossed_logistic import CrossedLogisticRegression
from ffm_udf.fm import FM
from ffm_udf.logistic import LogisticRegression
from ffm_udf.model import FFM
from ffm_udf.prior import HierarchicalPrior


class Scorer(Protocol):
    """A model of P(y = 1) from encoded rows.

    n_parameters_: trained numbers. nbytes_: bytes of what scoring reads. history_: a dict per epoch (epoch,
    train_logloss, valid_logloss, seconds, rows_per_s); empty if there are no epochs. best_epoch_: the epoch kept, or 0.
    """

    history_: list[dict[str, Any]]
    best_epoch_: int

    @property
    def n_parameters_(self) -> int: ...

    @property
    def nbytes_(self) -> int: ...

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        eval_set: tuple[np.ndarray, np.ndarray] | None = None,
        sample_weight: np.ndarray | None = None,
        n_features: int | None = None,
    ) -> Self: ...

    def decision_function(self, X: np.ndarray) -> np.ndarray: ...

    def save(self, path: Path | str) -> int: ...

    @classmethod
    def load(cls, path: Path | str) -> Self: ...


ALGORITHMS: dict[str, type[Scorer]] = {
    "prior": HierarchicalPrior,
    "lr": LogisticRegression,
    "lr_cross": CrossedLogisticRegression,
    "lightgbm": BoostedTrees,
    "fm": FM,
    "ffm": FFM,
}


@dataclass(frozen=True)
class Cost:
    """What a fitted model takes to keep and took to train. What training took of the machine is measured by the worker
    around `fit`."""

    n_parameters: int
    artifact_bytes: int
    epochs: int
    best_epoch: int


def make(algorithm: str, hyperparameters: Mapping[str, Any]) -> Scorer:
    """An unfitted model. Raises ValueError for an unknown algorithm, an unknown or missing hyperparameter, or a value
    against its rule."""
    kind = class_of(algorithm)
    try:
        inspect.signature(kind).bind(**hyperparameters)
    except TypeError as error:
        raise ValueError(f"hyperparameters of {algorithm}: {error}") from None
    return kind(**hyperparameters)


def open_model(algorithm: str, folder: Path | str) -> Scorer:
    """The fitted model in `folder`. Raises ValueError for an unknown algorithm or a damaged folder, FileNotFoundError
    if there is no such model."""
    return class_of(algorithm).load(folder)


def class_of(algorithm: str) -> type[Scorer]:
    """The class of an algorithm's models; ValueError if there is none."""
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    return ALGORITHMS[algorithm]


def cost(model: Scorer, folder: Path | str) -> Cost:
    """The cost of a fitted model that was saved as `folder`."""
    size = sum(file.stat().st_size for file in Path(folder).iterdir() if file.is_file())
    return Cost(int(model.n_parameters_), size, len(model.history_), model.best_epoch_)
