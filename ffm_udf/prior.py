"""The hierarchical prior: conversion rates of ever finer candidate groups, each shrunk to the one above, times an
entity's own lift. What a warehouse would publish without a model, and the baseline every model must beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffm_udf import artifact
from ffm_udf.rows import dense_rows
from ffm_udf.training_rows import TrainingRows, chunks, fitted

KIND = "prior"


class HierarchicalPrior:
    """Rates by feature id. `levels` are the columns of X holding the candidate fields from coarse to fine, `entity` the
    column of the entity field; `strength` is the number of pseudo-rows behind every parent.

    After `fit`: base_rate_, rates_ float64 [levels, n_features], lift_ float64 [n_features]; history_ is empty.
    """

    def __init__(self, levels: Sequence[int], entity: int, strength: float = 20.0) -> None:
        if not levels or any(column < 0 for column in levels):
            raise ValueError(f"levels must name at least one column of X, got {list(levels)}")
        if entity < 0:
            raise ValueError(f"entity must be a column of X, got {entity}")
        if not (math.isfinite(strength) and strength > 0):
            raise ValueError(f"strength must be positive and finite, got {strength}")
        self.levels, self.entity, self.strength = list(levels), entity, strength
        self.history_: list[dict[str, Any]] = []
        self.best_epoch_ = 0

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        eval_set: tuple[np.ndarray, np.ndarray] | None = None,
        sample_weight: np.ndarray | None = None,
        n_features: int | None = None,
    ) -> HierarchicalPrior:
        """X int32 [n, n_fields] of feature ids, y 0/1 [n]; returns self. A weight counts as that many rows; eval_set is
        checked and not used. Raises ValueError for bad input."""
        rows = TrainingRows.checked(X, y, eval_set, sample_weight, n_features)
        last = max(*self.levels, self.entity)
        if last >= rows.X.shape[1]:
            raise ValueError(f"levels and entity must be columns of X, got column {last} of {rows.X.shape[1]}")
        weight = rows.weight.astype(np.float64) if len(rows.weight) else np.ones(len(rows.y))
        converted = rows.y * weight
        self.base_rate_, self.n_fields_ = float(converted.sum() / weight.sum()), rows.X.shape[1]
        expected = np.full(len(weight), self.base_rate_)
        rates = np.empty((len(self.levels), rows.n_features))
        for place, column in enumerate(self.levels):
            ids = rows.X[:, column]
            rates[place] = self._shrunk(ids, converted, weight, expected, rows.n_features)
            # A feature's parent rate is that of its rows; rows of a feature never trained on keep the base rate.
            expected = rates[place][ids]
        self.rates_ = rates
        ids = rows.X[:, self.entity]
        observed = np.bincount(ids, converted, rows.n_features)
        predicted = np.bincount(ids, expected * weight, rows.n_features)
        # Pseudo-conversions, so that an entity with few rows keeps a lift of 1.
        self.lift_ = (observed + 1.0) / (predicted + 1.0)
        return self

    def _shrunk(
        self, ids: np.ndarray, converted: np.ndarray, weight: np.ndarray, parent: np.ndarray, n_features: int
    ) -> np.ndarray:
        rows = np.bincount(ids, weight, n_features)
        conversions, above = np.bincount(ids, converted, n_features), np.bincount(ids, parent * weight, n_features)
        above = np.divide(above, rows, out=np.full(n_features, self.base_rate_), where=rows > 0)
        return (conversions + self.strength * above) / (rows + self.strength)

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Logits, float32 [n]: the finest level's rate times the entity's lift."""
        finest, logits = fitted(self, "rates_")[-1], np.empty(len(X), np.float32)
        X = dense_rows(X, "X", self.n_fields_, len(self.lift_))
        for part in chunks(len(X)):
            p = finest[X[part, self.levels[-1]]] * self.lift_[X[part, self.entity]]
            p = np.clip(p, 1e-9, 1 - 1e-9)
            logits[part] = np.log(p / (1 - p))
        return logits

    @property
    def n_parameters_(self) -> int:
        """A rate per level and feature, a lift per feature, the base rate."""
        return fitted(self, "rates_").size + self.lift_.size + 1

    @property
    def nbytes_(self) -> int:
        """Bytes of the scoring arrays: float64 each."""
        return 8 * (self.n_parameters_ - 1)

    def save(self, path: Path | str) -> int:
        """Write prior.json and the arrays into the folder `path`; returns their bytes."""
        header = {
            "levels": self.levels,
            "entity": self.entity,
            "strength": self.strength,
            "n_fields": fitted(self, "n_fields_"),
            "base_rate": self.base_rate_,
        }
        return artifact.save(path, KIND, header, {"rates": self.rates_, "lift": self.lift_})

    @classmethod
    def load(cls, path: Path | str) -> HierarchicalPrior:
        """The prior in the folder `path`, its arrays memory-mapped. Raises FileNotFoundError if there is none and
        ValueError if it is damaged or of another format version."""
        header, arrays = artifact.load(path, KIND)
        model = cls(header["levels"], header["entity"], header["strength"])
        model.base_rate_, model.n_fields_ = header["base_rate"], header["n_fields"]
        model.rates_, model.lift_ = arrays["rates"], arrays["lift"]
        return model
