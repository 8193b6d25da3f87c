"""What trees see of encoded rows.

A tree can cut a number anywhere, but an id is one of thousands to it. So fields whose values are numbers become numbers
again, by a table from feature id to up to two of them (`boosted_trees.ordinals`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffm_udf.memory import check_memory
from ffm_udf.training_rows import TrainingRows, chunks


@dataclass(frozen=True)
class TreeColumns:
    """What LightGBM sees of rows of feature ids. `columns`: (field, kind, first id) with kind "first" or "second" for
    a number of `ordinals` float32 [n_features, 2], "category" or "number" for the id less the first id."""

    ordinals: np.ndarray
    n_fields: int
    columns: list[tuple[int, str, int]]

    @classmethod
    def of(cls, rows: TrainingRows, ordinals: np.ndarray | None, categories: int) -> TreeColumns:
        """Chosen by what the ids of each field in the training rows are."""
        if ordinals is None:
            ordinals = np.full((rows.n_features, 2), np.nan, np.float32)
        if np.shape(ordinals) != (rows.n_features, 2):
            raise ValueError(f"ordinals must have the shape ({rows.n_features}, 2), got {np.shape(ordinals)}")
        seen, columns = rows.seen(), []
        for place in range(rows.X.shape[1]):
            low, high = int(rows.X[:, place].min()), int(rows.X[:, place].max())
            there = np.isfinite(ordinals[low : high + 1])[seen[low : high + 1]].any(axis=0)
            if there.any():
                columns += [(place, name, 0) for name, has in zip(("first", "second"), there, strict=True) if has]
            else:
                columns.append((place, "category" if high - low < categories else "number", low))
        return cls(np.asarray(ordinals, np.float32), rows.X.shape[1], columns)

    @property
    def n_features(self) -> int:
        return len(self.ordinals)

    @property
    def categorical(self) -> list[int]:
        """Places of the columns that are categories."""
        return [place for place, (_, kind, _) in enumerate(self.columns) if kind == "category"]

    def matrix(self, X: np.ndarray) -> np.ndarray:
        """float32 [n, columns]. Ids below those seen in training become negative: a missing category to LightGBM."""
        check_memory(4 * len(X) * len(self.columns), f"{len(X):,} rows for LightGBM", "use fewer rows")
        found = np.empty((len(X), len(self.columns)), np.float32)
        for part in chunks(len(X)):
            for place, (column, kind, low) in enumerate(self.columns):
                ids = X[part, column]
                number = {"first": 0, "second": 1}.get(kind)
                found[part, place] = ids - low if number is None else self.ordinals[ids, number]
        return found
