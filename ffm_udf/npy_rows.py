"""Rows of an .npy file that lies on disk already, written by several tasks side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_rows(path: Path, first: int, table: np.ndarray) -> None:
    """Write `table` at row `first` of the array in `path`. Tasks may write disjoint rows of the same file.

    With plain writes: a full disk is then an OSError, not the end of the process as in a mapped file. Raises ValueError
    if the rows do not fit the array.
    """
    with path.open("r+b") as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        if first < 0 or first + len(table) > shape[0] or table.shape[1:] != shape[1:]:
            rows = f"rows {first}..{first + len(table)} of shape {table.shape}"
            raise ValueError(f"{rows} do not fit {path.stem} {shape}")
        if not table.size:  # rows of no columns
            return
        file.seek(file.tell() + first * int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize)
        file.write(memoryview(np.ascontiguousarray(table, dtype)).cast("B"))
