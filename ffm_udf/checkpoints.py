"""Weights of a mixing run on storage, and the manifest that makes an epoch count.

    <work>/epoch-0003/       blocks.npy, linear.npy, bias.npy: the merged weights with their AdaGrad sums
    <work>/epoch-0003.json   written last, atomically: history, costs, and a checksum of every slice of every kept array

The merged arrays are laid out empty and filled in slices by tasks; whoever reads them maps them. A manifest is valid if
it matches its own checksum and that of every slice: nothing needs to be flushed, since what a crash of the machine
loses is found missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from ffm_udf.layout import Layout
from ffm_udf.npy_rows import write_rows
from ffm_udf.weights import Weights

NAMES = ("blocks", "linear", "bias")
BYTES_AT_ONCE = 1 << 24


def tables(weights: Weights) -> dict[str, np.ndarray]:
    """The arrays of `weights` by name, each with a row per feature (the bias has one row)."""
    return {"blocks": weights.table, "linear": weights.linear, "bias": weights.bias}


def save(folder: Path, weights: Weights) -> None:
    """Write `weights` to `folder`, made if absent; each file appears whole."""
    folder.mkdir(exist_ok=True)
    for name, table in tables(weights).items():
        save_array(folder / f"{name}.npy", table)


def slices(folder: Path, weights: Weights) -> list[dict[str, Any]]:
    """What `put` would have returned for the whole arrays that `save` wrote to `folder`."""
    return [_slice(folder, name, 0, table) for name, table in tables(weights).items()]


def save_array(path: Path, array: np.ndarray) -> None:
    """Write `array` so that the file appears whole."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.npy")
    np.save(temporary, array, allow_pickle=False)
    os.replace(temporary, path)


def load(folder: Path, layout: Layout) -> Weights:
    """The weights in `folder`, memory-mapped and read-only."""
    arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)) for name in NAMES}
    shape = layout.n_features, layout.stride
    if arrays["blocks"].shape != shape:
        raise ValueError(f"weights {folder} are of another model: blocks are {arrays['blocks'].shape}, not {shape}")
    return Weights(layout, arrays["blocks"].reshape(-1), arrays["linear"], arrays["bias"])


def allocate(folder: Path, layout: Layout) -> None:
    """Lay out empty arrays in `folder`. Sparse: neither memory nor disk is used before tasks fill them."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {"blocks": (layout.n_features, layout.stride), "linear": (layout.n_features, 2), "bias": (1, 2)}
    for name, shape in shapes.items():
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, shape)


def put(folder: Path, name: str, first: int, table: np.ndarray) -> dict[str, Any]:
    """Write the rows `table` at row `first` of an allocated array; returns {folder, name, first, rows, sha256}."""
    write_rows(folder / f"{name}.npy", first, table)
    return _slice(folder, name, first, table)


def _slice(folder: Path, name: str, first: int, table: np.ndarray) -> dict[str, Any]:
    digest = hashlib.sha256(memoryview(np.ascontiguousarray(table)).cast("B")).hexdigest()
    return {"folder": folder.name, "name": name, "first": first, "rows": len(table), "sha256": digest}


def intact(work: Path, part: dict[str, Any]) -> bool:
    """Whether a slice still has the bytes that were written."""
    try:
        array = np.load(work / part["folder"] / f"{part['name']}.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return False
    table, digest = array[part["first"] : part["first"] + part["rows"]], hashlib.sha256()
    if len(table) != part["rows"]:
        return False
    step = max(1, BYTES_AT_ONCE // table[:1].nbytes)
    for first in range(0, len(table), step):
        digest.update(memoryview(np.ascontiguousarray(table[first : first + step])).cast("B"))
    return digest.hexdigest() == part["sha256"]


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(content | {"sha256": _checksum(content)}, indent=1, sort_keys=True))
    os.replace(temporary, path)


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest's content, or None if it is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
        checksum = content.pop("sha256")
    except (OSError, ValueError, AttributeError, KeyError):
        return None
    return content if checksum == _checksum(content) else None


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
