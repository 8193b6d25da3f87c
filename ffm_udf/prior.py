"""The hierarchical prior: conversion rates of ever finer candidate groups, each shrunk to the one above, times an
entity's own lift. What a warehouse would publish without a model, and the baseline every model must beat."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np


class HierarchicalPrior:
    """Rates by feature id. `levels` are the columns of X holding the candidate fields from coarse to fine, `entity` the
    column of the entity field; `strength` is the number of pseudo-rows behind every parent."""

    def __init__(self, levels: Sequence[int], entity: int, strength: float = 20.0) -> None:
        self.levels, self.entity, self.strength = list(levels), entity, strength

    def fit(self, X: np.ndarray, y: np.ndarray, n_features: int) -> HierarchicalPrior:
        """X int32 [n, n_fields] of feature ids, y 0/1 [n]; returns self."""
        y = np.asarray(y, np.float64)
        self.base_rate_ = float(y.mean())
        expected = np.full(len(y), self.base_rate_)
        rates = np.empty((len(self.levels), n_features))
        for place, column in enumerate(self.levels):
            ids = X[:, column]
            rates[place] = self._shrunk(ids, y, expected, n_features)
            # A feature's parent rate is that of its rows; rows of a feature never trained on keep the base rate.
            expected = rates[place][ids]
        self.rates_ = rates
        ids = X[:, self.entity]
        observed, predicted = np.bincount(ids, y, n_features), np.bincount(ids, expected, n_features)
        # Pseudo-conversions, so that an entity with few rows keeps a lift of 1.
        self.lift_ = (observed + 1.0) / (predicted + 1.0)
        return self

    def _shrunk(self, ids: np.ndarray, y: np.ndarray, parent: np.ndarray, n_features: int) -> np.ndarray:
        rows = np.bincount(ids, minlength=n_features)
        conversions, above = np.bincount(ids, y, n_features), np.bincount(ids, parent, n_features)
        above = np.divide(above, rows, out=np.full(n_features, self.base_rate_), where=rows > 0)
        return (conversions + self.strength * above) / (rows + self.strength)

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Logits, float32 [n]: the finest level's rate times the entity's lift."""
        p = self.rates_[-1][X[:, self.levels[-1]]] * self.lift_[X[:, self.entity]]
        p = np.clip(p, 1e-9, 1 - 1e-9)
        return np.log(p / (1 - p)).astype(np.float32)

    @property
    def n_parameters_(self) -> int:
        return self.rates_.size + self.lift_.size + 1

    def save(self, path: Path | str) -> None:
        """Write prior.json and the arrays into the folder `path`."""
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        np.save(path / "rates.npy", self.rates_, allow_pickle=False)
        np.save(path / "lift.npy", self.lift_, allow_pickle=False)
        header = {"levels": self.levels, "entity": self.entity, "strength": self.strength, "base_rate": self.base_rate_}
        (path / "prior.json").write_text(json.dumps(header, indent=1, sort_keys=True))

    @classmethod
    def load(cls, path: Path | str) -> HierarchicalPrior:
        """The prior in the folder `path`, its arrays memory-mapped."""
        path = Path(path)
        header = json.loads((path / "prior.json").read_text())
        model = cls(header["levels"], header["entity"], header["strength"])
        model.base_rate_ = header["base_rate"]
        model.rates_ = np.load(path / "rates.npy", mmap_mode="r", allow_pickle=False)
        model.lift_ = np.load(path / "lift.npy", mmap_mode="r", allow_pickle=False)
        return model
