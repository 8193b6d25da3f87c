"""The highest scores per entity and per candidate, kept while the scores stream by.

Ranked by raw score, ties by place: the earlier candidate (or entity) comes first, whatever the chunks.
"""

from __future__ import annotations

import functools

import numpy as np
from numba.core import types

from ffm_udf.kernels import array, compile_kernel

# Scores compared at once: most are too low, and counting those that are not takes no branches.
LOOKED_AT = 64


def descending(Z: np.ndarray) -> np.ndarray:
    """Places int32 [n, m] of every row of Z float32 [n, m], highest first, ties by place."""
    bits = Z.view(np.uint32)
    # As unsigned integers: negative floats with all bits turned, others with the sign bit set, sort as the floats do.
    # Turned once more they sort downwards; the place in the low half decides ties, and needs no sort by index.
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    keys = (~ascending).astype(np.uint64) << np.uint64(32)
    keys |= np.arange(Z.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    return keys.astype(np.uint32).astype(np.int32)


@functools.cache
def keeper():
    """Kernel `keep`."""

    def keep(Z, note, first, score, place, noted):
        """Keeps the highest entries of every column of Z [n, m] in score float32, place int32 and noted int8 [m, N],
        sorted down.

        Row i has place first + i and the notes note[i]; an equal score that came before stays ahead. `score` starts at
        -inf.
        """
        rows, columns = Z.shape
        N = score.shape[1]
        least = np.empty(columns, np.float32)
        for c in range(columns):
            least[c] = score[np.uint64(c), np.uint64(N - 1)]
        for i in range(rows):
            row = Z[np.uint64(i)]
            for begin in range(0, columns, LOOKED_AT):
                end = min(begin + LOOKED_AT, columns)
                higher = 0
                for c in range(begin, end):
                    higher += row[np.uint64(c)] > least[np.uint64(c)]
                if higher == 0:
                    continue
                for c in range(begin, end):
                    at = np.uint64(c)
                    if row[at] > least[at]:
                        slot = N - 1
                        while slot > 0 and score[at, np.uint64(slot - 1)] < row[at]:
                            score[at, np.uint64(slot)] = score[at, np.uint64(slot - 1)]
                            place[at, np.uint64(slot)] = place[at, np.uint64(slot - 1)]
                            noted[at, np.uint64(slot)] = noted[at, np.uint64(slot - 1)]
                            slot -= 1
                        score[at, np.uint64(slot)] = row[at]
                        place[at, np.uint64(slot)] = first + i
                        noted[at, np.uint64(slot)] = note[np.uint64(i), at]
                        least[at] = score[at, np.uint64(N - 1)]

    signature = types.void(
        array(types.float32, 2), array(types.int8, 2), types.int64, array(types.float32, 2, False),
        array(types.int32, 2, False), array(types.int8, 2, False))  # fmt: skip
    return compile_kernel(keep, "columns", signature)


@functools.cache
def picker():
    """Kernel `pick`."""

    def pick(Z, score, place):
        """Writes the highest entries of every row of Z [n, m] into score float32 and place int32 [n, N], sorted down;
        equal scores stay in the order of their places. Where m < N the rest stays -inf and -1."""
        rows, columns = Z.shape
        N = score.shape[1]
        for i in range(rows):
            row, best, where = Z[np.uint64(i)], score[np.uint64(i)], place[np.uint64(i)]
            for slot in range(N):
                best[np.uint64(slot)] = -np.inf
                where[np.uint64(slot)] = -1
            least = np.float32(-np.inf)
            for begin in range(0, columns, LOOKED_AT):
                end = min(begin + LOOKED_AT, columns)
                higher = 0
                for c in range(begin, end):
                    higher += row[np.uint64(c)] > least
                if higher == 0:
                    continue
                for c in range(begin, end):
                    value = row[np.uint64(c)]
                    if value > least:
                        slot = N - 1
                        while slot > 0 and best[np.uint64(slot - 1)] < value:
                            best[np.uint64(slot)] = best[np.uint64(slot - 1)]
                            where[np.uint64(slot)] = where[np.uint64(slot - 1)]
                            slot -= 1
                        best[np.uint64(slot)] = value
                        where[np.uint64(slot)] = c
                        least = best[np.uint64(N - 1)]

    signature = types.void(array(types.float32, 2), array(types.float32, 2, False), array(types.int32, 2, False))
    return compile_kernel(pick, "rows", signature)


class TopPerColumn:
    """The `n` highest of every column over all chunks given to `keep`: score float32, place int32 and noted int8
    [columns, n], highest first; -inf and -1 where there are fewer."""

    def __init__(self, columns: int, n: int) -> None:
        self.score = np.full((columns, n), -np.inf, np.float32)
        self.place = np.full((columns, n), -1, np.int32)
        self.noted = np.zeros((columns, n), np.int8)

    def keep(self, Z: np.ndarray, note: np.ndarray, first: int) -> None:
        """Z float32 and note int8 [rows, columns]; row i has place first + i."""
        keeper()(Z, note, first, self.score, self.place, self.noted)


def top_of_rows(Z: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The `n` highest scores float32 [rows, n] of every row of Z and their places int32, highest first; -inf and -1
    where the row has fewer."""
    score, place = np.empty((len(Z), n), np.float32), np.empty((len(Z), n), np.int32)
    picker()(Z, score, place)
    return score, place
