"""The rows that models are judged on, as arrays on disk that every task maps: valid, calib and test in time order.

    y.npy int8, entity.npy candidate.npy tie.npy uint64, value.npy float64, slices.npy int32 [n, S]
    cost.npy float64, eligible.npy bool    only where the contract has such columns
    judged.json    {"rows": folder of the data set that has their features, "first": their first row in it, …}

Row i is row `first` + i of the RowStore, so features stand on disk once. Keys are 64-bit hashes: what groups rows by
entity or candidate needs no dictionary that all tasks would have to share.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffm_udf.npy_rows import write_rows
from ffm_udf.row_store import RowStore

HEADER = "judged.json"
KINDS = {"y": np.int8, "entity": np.uint64, "candidate": np.uint64, "tie": np.uint64, "value": np.float64}
OPTIONAL = {"cost": np.float64, "eligible": np.bool_}


@dataclass(frozen=True)
class JudgedRows:
    """n rows, memory-mapped, in period order. `slices` holds codes into `slice_values`[slice]; `tie` is pseudo-random
    per row, for ranks that must not follow the order of rows. Slices are [start, stop) of these arrays."""

    y: np.ndarray  # int8 [n]
    entity: np.ndarray  # uint64 [n]
    candidate: np.ndarray  # uint64 [n]
    tie: np.ndarray  # uint64 [n]
    value: np.ndarray  # float64 [n], money if converted, else 0
    cost: np.ndarray | None  # float64 [n]
    eligible: np.ndarray | None  # bool [n]; None: every row
    slices: np.ndarray  # int32 [n, S]
    slice_names: list[str]
    slice_values: list[list[str]]
    periods: dict[int, slice]  # rows of each period number
    splits: dict[str, slice]  # valid | calib | test
    store: RowStore  # all rows of the cycle, training ones too
    first: int

    @classmethod
    def open(cls, folder: Path | str) -> JudgedRows:
        """Map the arrays of `folder`; FileNotFoundError if there are none, ValueError if their sizes disagree."""
        folder = Path(folder)
        if not (folder / HEADER).exists():
            raise FileNotFoundError(f"{folder} holds no judged rows: it has no {HEADER}")
        header = json.loads((folder / HEADER).read_text())
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in (*KINDS, *header["optional"])}
        slices = np.load(folder / "slices.npy", mmap_mode="r")
        n = header["n"]
        if any(len(array) != n for array in (*arrays.values(), slices)):
            raise ValueError(f"judged rows {folder} are damaged: {n} rows are declared")
        periods = {int(number): slice(start, stop) for number, start, stop in header["periods"]}
        splits = {part: slice(periods[a].start, periods[b].stop) for part, (a, b) in header["splits"].items()}
        return cls(
            **arrays,
            **{name: None for name in OPTIONAL if name not in header["optional"]},
            slices=slices,
            slice_names=header["slice_names"],
            slice_values=header["slice_values"],
            periods=periods,
            splits=splits,
            store=RowStore.open(arrays_of(folder / header["rows"])),
            first=header["first"],
        )

    @property
    def X(self) -> np.ndarray:
        """Feature ids int32 [n, n_fields]."""
        return self.store.X[self.first : self.first + len(self.y)]

    @property
    def fields(self) -> list[str]:
        return self.store.fields

    def periods_of(self, part: str) -> list[int]:
        """The numbers of the periods of `valid`, `calib` or `test` that have rows, in order."""
        rows = self.splits[part]
        return [
            n for n, s in self.periods.items() if rows.start <= s.start and s.stop <= rows.stop and s.stop > s.start
        ]

    @staticmethod
    def create(
        folder: Path | str,
        rows: str,
        first: int,
        periods: Mapping[int, tuple[int, int]],
        splits: Mapping[str, tuple[int, int]],
        slice_values: Mapping[str, Sequence[str]],
        optional: Sequence[str] = (),
    ) -> None:
        """Lay out empty arrays for tasks to fill with `put`.

        rows: the RowStore's folder relative to `folder`; first: its row that is row 0 here; periods: number -> (start,
        stop) here; splits: part -> (first, last) period; slice_values: the values of every slice.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        n = max((stop for _, stop in periods.values()), default=0)
        kinds = KINDS | {name: OPTIONAL[name] for name in optional}
        for name, kind in kinds.items():
            np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, (n,))
        np.lib.format.open_memmap(folder / "slices.npy", "w+", np.int32, (n, len(slice_values)))
        header = {
            "n": n,
            "rows": rows,
            "first": first,
            "periods": [[number, *ends] for number, ends in sorted(periods.items())],
            "splits": {part: list(ends) for part, ends in splits.items()},
            "slice_names": list(slice_values),
            "slice_values": [list(values) for values in slice_values.values()],
            "optional": list(optional),
        }
        (folder / HEADER).write_text(json.dumps(header))


def arrays_of(folder: Path) -> Path:
    """Where the arrays of a data set lie: in the folder of its run, which its manifest names, else in `folder`."""
    manifest = folder / "manifest.json"
    return (folder / json.loads(manifest.read_text())["run"] if manifest.exists() else folder).resolve()


def put(folder: Path | str, first: int, columns: Mapping[str, np.ndarray]) -> None:
    """Write equally long `columns` at row `first`; tasks write disjoint rows of the same files."""
    for name, values in columns.items():
        write_rows(Path(folder) / f"{name}.npy", first, values)


def hashed(values: Any) -> np.ndarray:
    """64 bits of BLAKE2 of each text of a pyarrow array, uint64: the same on every machine, in every version."""
    import pyarrow as pa

    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    encoded = column.dictionary_encode()
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in encoded.dictionary.to_pylist()]
    known = np.frombuffer(b"".join(digests), np.uint64)
    return known[encoded.indices.to_numpy(zero_copy_only=False)] if len(known) else np.zeros(0, np.uint64)


def mixed(*parts: np.ndarray) -> np.ndarray:
    """One pseudo-random uint64 per row from several (SplitMix64's finalizer after each; Steele et al. 2014)."""
    state = np.zeros(len(parts[0]), np.uint64)
    for part in parts:
        state = state + np.uint64(0x9E3779B97F4A7C15) + part.astype(np.uint64)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state
