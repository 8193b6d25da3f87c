"""Encoded rows as arrays on disk, mapped into memory once per host and shared by every task that reads them.

    X.npy       int32 [n, n_fields]   feature ids, column f = field f
    y.npy       int8  [n]             labels
    rows.json   {"fields": [...], "periods": [[period number, first row, end row], ...]}

Rows lie in the order of their periods, so any span of periods (a split, a window, a fold) is one slice, and training on
it copies nothing. The folder must lie where every host sees it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffm_udf.npy_rows import write_rows

HEADER = "rows.json"


@dataclass(frozen=True)
class RowStore:
    """X int32 [n, n_fields] and y int8 [n], memory-mapped, read-only; `periods`: number -> (first row, end row)."""

    X: np.ndarray
    y: np.ndarray
    fields: list[str]
    periods: dict[int, tuple[int, int]]

    @classmethod
    def open(cls, folder: Path | str) -> RowStore:
        """Map the arrays of `folder`; FileNotFoundError if there are none, ValueError if their sizes disagree."""
        folder = Path(folder)
        if not (folder / HEADER).exists():
            raise FileNotFoundError(f"{folder} holds no rows: it has no {HEADER}")
        header = json.loads((folder / HEADER).read_text())
        X, y = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("X", "y"))
        periods = {int(number): (int(first), int(end)) for number, first, end in header["periods"]}
        rows = max((end for _, end in periods.values()), default=0)
        if X.shape != (rows, len(header["fields"])) or y.shape != (rows,):
            raise ValueError(f"rows {folder} are damaged: {rows} rows are declared, X is {X.shape} and y {y.shape}")
        return cls(X, y, list(header["fields"]), periods)

    def span(self, first: int, last: int) -> slice:
        """The rows of the periods first..last, both included; ValueError if there are none."""
        inside = [ends for number, ends in self.periods.items() if first <= number <= last]
        if not inside or inside[-1][1] == inside[0][0]:
            held = f"{min(self.periods)}..{max(self.periods)}" if self.periods else "none"
            raise ValueError(f"periods {first}..{last} have no rows; there are periods {held}")
        return slice(inside[0][0], inside[-1][1])

    def period_numbers(self, rows: slice) -> np.ndarray:
        """The period of each row of the slice, int32."""
        found = np.empty(rows.stop - rows.start, np.int32)
        for number, (first, end) in self.periods.items():
            found[max(first - rows.start, 0) : max(end - rows.start, 0)] = number
        return found

    @staticmethod
    def create(folder: Path | str, fields: Sequence[str], counts: Mapping[int, int]) -> None:
        """Lay out empty arrays for `counts` rows per period number, for tasks to fill with `put`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        periods, first = [], 0
        for number in sorted(counts):
            periods.append([int(number), first, first + int(counts[number])])
            first += int(counts[number])
        for name, dtype, shape in (("X", np.int32, (first, len(fields))), ("y", np.int8, (first,))):
            np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)
        (folder / HEADER).write_text(json.dumps({"fields": list(fields), "periods": periods}))


def put(folder: Path | str, first: int, X: np.ndarray, y: np.ndarray) -> None:
    """Write rows X int32 [m, n_fields] and y int8 [m] at row `first`; tasks write disjoint rows of the same files."""
    for name, part in (("X", X), ("y", y)):
        write_rows(Path(folder) / f"{name}.npy", first, part)
