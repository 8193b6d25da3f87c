"""The inputs of scoring as arrays: the files of the data set `score_inputs`, which jobs/score_inputs.py describes."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ffm_udf.pair_features import Sides


@dataclass(frozen=True)
class Layout:
    """layout.json as the engine takes it: which of the model's fields are whose, number of keys and default feature of
    every pair field, and of every field the feature for values the model does not know."""

    sides: Sides
    names: dict[str, list[str]]  # fields by side: entity, candidate, pair
    keys: tuple[int, ...]
    default: np.ndarray  # int32 [P]
    unknown: np.ndarray  # int32 [fields]


@dataclass(frozen=True)
class Block:
    """The inputs of one block: entity ids and matches, features of the entities, sparse pair entries by field."""

    entity_id: pa.Array
    match_id: np.ndarray  # of str, sorted
    X: np.ndarray  # int32 [entities, |U|]
    indptr: np.ndarray  # int64 [P, entities + 1]
    key: np.ndarray  # int32
    feature: np.ndarray  # int32


@dataclass(frozen=True)
class Offers:
    """All candidates, sorted by match: ids, features, keys of the pair fields, and the rows of each match."""

    candidate_id: pa.Array
    X: np.ndarray  # int32 [candidates, |C|]
    keys: np.ndarray  # int32 [candidates, P]
    of_match: dict[str, slice]


def layout(inputs: str) -> Layout:
    """The layout of the score_inputs in folder `inputs`."""
    found = json.loads((Path(inputs) / "layout.json").read_text())
    place = {name: at for at, name in enumerate(found["fields"])}
    names = {side: found[side] for side in ("entity", "candidate", "pair")}
    return Layout(
        Sides(*(tuple(place[name] for name in fields) for fields in names.values())),
        names,
        tuple(found["keys"][name] for name in found["pair"]),
        np.array([found["default"][name] for name in found["pair"]], np.int32),
        np.array([found["oov"][name] for name in found["fields"]], np.int32),
    )


def block(inputs: str, number: int, of: Layout) -> Block:
    """Block `number` of the score_inputs in folder `inputs`."""
    folder = Path(inputs) / f"block={number:05d}"
    entities = _read(folder / "entities")
    entries = _read(folder / "pairs")
    field, entity = entries["field"].to_numpy(), entries["entity"].to_numpy()
    # Entries are sorted by field and entity: where each entity's begin is a count of those before.
    n, P = entities.num_rows, len(of.keys)
    ends = np.cumsum(np.bincount(field.astype(np.int64) * n + entity, minlength=P * n)).reshape(P, n)
    starts = np.concatenate([[0], ends.reshape(-1)])[:-1].reshape(ends.shape)
    indptr = np.concatenate([starts[:, :1], ends], axis=1) if n else np.zeros((P, 1), np.int64)
    return Block(
        entities["entity_id"].combine_chunks(),
        entities["match_id"].to_numpy(),
        _features(entities, of.names["entity"], "f"),
        np.ascontiguousarray(indptr, np.int64),
        *(np.ascontiguousarray(entries[name].to_numpy(), np.int32) for name in ("key", "feature")),
    )


@functools.lru_cache(maxsize=2)
def offers(inputs: str) -> Offers:
    """The candidates, read once per process however many blocks it scores."""
    names, table = layout(inputs).names, _read(Path(inputs) / "candidates")
    of_match = dict(groups(table["match_id"].to_numpy()))
    ids = table["candidate_id"].combine_chunks()
    return Offers(ids, _features(table, names["candidate"], "f"), _features(table, names["pair"], "k"), of_match)


def _read(folder: Path) -> pa.Table:
    """All files of a folder, one after the other; without threads of Arrow's own, which the cores have no room for."""
    files = sorted(folder.glob("*.parquet"))
    return pa.concat_tables([pq.ParquetFile(file).read(use_threads=False) for file in files])


def _features(table: pa.Table, names: list[str], kind: str) -> np.ndarray:
    if not names:
        return np.zeros((table.num_rows, 0), np.int32)
    return np.ascontiguousarray(np.column_stack([table[f"{kind}_{name}"].to_numpy() for name in names]), np.int32)


def groups(match_id: np.ndarray) -> Iterator[tuple[str, slice]]:
    """Each match of a sorted array with its rows; rows without a match (None) belong to none."""
    if len(match_id):
        starts = np.flatnonzero(np.concatenate([[True], match_id[1:] != match_id[:-1]]))
        for start, stop in zip(starts, [*starts[1:], len(match_id)], strict=True):
            if match_id[start] is not None:
                yield str(match_id[start]), slice(int(start), int(stop))
