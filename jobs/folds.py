"""Rolling-origin folds: the evaluation repeated at earlier dates, so that choices are made without the test periods.

A fold is cut like the contract's split (train < valid < calib < test), and its vocabulary is what counting its own
training rows would have given: a value that was rare then is unknown then. Pure: spans of periods and arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffm_udf.row_store import RowStore


class FoldError(ValueError):
    """Folds that do not fit into the periods there are; the message says what to change."""


@dataclass(frozen=True)
class Fold:
    """[first, last] period of each part, both included."""

    train: list[int]
    valid: list[int]
    calib: list[int]
    test: list[int]

    def windowed(self, periods: int | None) -> list[int]:
        """The training span, or its last `periods` periods."""
        first, last = self.train
        return [first if periods is None else max(first, last - periods + 1), last]

    def calibration(self, period: int, maturity: int = 0) -> list[int]:
        """The periods [first, last] from which the calibrator of a test period is learned: as many as calib has, the
        last ones whose labels are final when it starts (rolling origin, as for the contract's own test periods)."""
        last = period - 1 - maturity
        return [last - (self.calib[1] - self.calib[0]), last]


def rolling(
    first: int, last: int, folds: int, test: int, valid: int, calib: int, maturity: int = 0, window: int | None = None
) -> list[Fold]:
    """`folds` folds over the periods first..last, the oldest first; their test parts follow one another, end with
    `last` and are `test` periods long each.

    Parts keep `maturity` periods between them. Training takes all earlier periods, or the last `window`. Raises
    FoldError if the oldest fold has fewer training than test periods.
    """
    if min(folds, test, valid, calib) < 1:
        raise FoldError(
            f"folds and the periods of their parts must be at least 1, got {folds} folds of {valid} valid, {calib} "
            f"calib and {test} test"
        )
    found = []
    for number in range(folds - 1, -1, -1):
        end = last - number * test
        spans: dict[str, list[int]] = {}
        for part, length in (("test", test), ("calib", calib), ("valid", valid)):
            spans[part] = [end - length + 1, end]
            end -= length + maturity
        found.append(Fold([first if window is None else max(first, end - window + 1), end], **spans))
    have = found[0].train[1] - first + 1
    if have < test:
        raise FoldError(
            f"the oldest of {folds} folds must have at least as many training as test periods ({test}), got "
            f"{max(have, 0)}; use fewer or shorter folds"
        )
    return found


def refolded(
    store: RowStore, train: Sequence[int], columns: Sequence[int], offsets: np.ndarray, n_features: int, min_count: int
) -> tuple[np.ndarray, int]:
    """Ids as the training span [first, last] and these `columns` alone would have numbered them: (int32 [n_features],
    how many there are); ids of other columns map to -1.

    `offsets` int [n_fields]: the first id of every field, its OOV feature. An id with fewer than `min_count` training
    rows maps to its field's OOV, the others keep their order without gaps. Right for spans within the vocabulary's own
    training periods: what was rare in all of them was rare in each.
    """
    rows = store.span(*train)
    counts = np.zeros(n_features, np.int64)
    for column in columns:
        counts += np.bincount(store.X[rows, column], minlength=n_features)
    kept = counts >= min_count
    kept[offsets[columns]] = True
    numbers = np.cumsum(kept, dtype=np.int32) - np.int32(1)
    field = np.searchsorted(offsets, np.arange(n_features), side="right") - 1
    numbers = np.where(kept, numbers, numbers[offsets[field]])
    return np.where(np.isin(field, columns), numbers, np.int32(-1)), int(kept.sum())
