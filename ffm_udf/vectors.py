"""What runs inside a Spark task: take a block of entities apart into vectors, and write them as Parquet.

The vectors are the parts of the formula in factored.py, with R and the weights inside, so that whoever reads them
needs additions and inner products only. The P pair fields are numbered 0..P - 1.

    entity_vectors/     entity_id, match_id, constant s_u, vector P_u, to_pairs [P · |U| k]
    candidate_vectors/  candidate_id, match_id, constant s_c, vector Q_c, to_pairs [P · |C| k], keys [P]
    pair_entries/       entity_id, match_id, field, key, feature: where a pair has another feature than its default
    feature_vectors/    field, feature, value, is_default, constant, to_entity [|U| k], to_candidate [|C| k],
                        to_pair [P · k]: every feature of the pair fields, the defaults with zeros

To a pair whose candidate has the key of an entry, feature x of field p adds constant + <to_pairs of the entity at p,
to_entity> + <to_pairs of the candidate at p, to_candidate>, and with another such feature y of field q
<to_pair of x at q, to_pair of y at p>.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ffm_udf import block_inputs, scoring
from ffm_udf.factored import Factored, Side
from ffm_udf.heartbeat import beating
from ffm_udf.model import FFM
from ffm_udf.pair_features import MISSING

STEP = 1 << 12  # entities or candidates at a time: bounds memory, and is what a reader of one entity has to read
TEXT, NUMBER, FLOATS = pa.string(), pa.int32(), pa.list_(pa.float32())
SIDE = [("constant", pa.float32()), ("vector", FLOATS), ("to_pairs", FLOATS)]
SCHEMAS = {
    "entity_vectors": [("entity_id", TEXT), ("match_id", TEXT), *SIDE],
    "candidate_vectors": [("candidate_id", TEXT), ("match_id", TEXT), *SIDE, ("keys", pa.list_(NUMBER))],
    "pair_entries": [("entity_id", TEXT), ("match_id", TEXT), ("field", NUMBER), ("key", NUMBER), ("feature", NUMBER)],
    "feature_vectors": [
        *[("field", NUMBER), ("feature", NUMBER), ("value", TEXT), ("is_default", pa.bool_())],
        *[("constant", pa.float32()), ("to_entity", FLOATS), ("to_candidate", FLOATS), ("to_pair", FLOATS)],
    ],
}


@dataclass(frozen=True)
class Parts:
    """What every task of a model's vectors has: where the inputs are, how they are laid out, the model by sides."""

    inputs: str
    layout: block_inputs.Layout
    factored: Factored

    @classmethod
    def open(cls, inputs: str, folder: str) -> Parts:
        """From the folders of the score_inputs and of the model; ValueError if that is no FFM."""
        model = scoring.opened(folder).model
        if not isinstance(model, FFM):
            raise ValueError(f"model must be an FFM to be taken apart into vectors, got {type(model).__name__}")
        layout = block_inputs.layout(inputs)
        return cls(inputs, layout, Factored(model, layout.sides))


def write_step(task: dict[str, Any]) -> dict[str, int]:
    """Write the files of one block of entities or, if `block` is None, those of candidates and features.

    `task`: inputs and model (folders), block, vocabulary (its files), out (folder of the data set), heartbeat (file).
    Returns the rows written by folder, and the model's k.
    """
    with beating(Path(task["heartbeat"]), "vectors"):
        parts, out = Parts.open(task["inputs"], task["model"]), Path(task["out"])
        if task["block"] is None:
            tables = {"candidate_vectors": _candidates(parts), "feature_vectors": _features(parts, task["vocabulary"])}
        else:
            block = block_inputs.block(parts.inputs, task["block"], parts.layout)
            _refuse_missing("entity", block.X)
            _refuse_missing("pair", block.feature)
            tables = {"entity_vectors": _entities(parts, block), "pair_entries": _entries(block)}
        rows = {name: _write(out, name, task["block"] or 0, found) for name, found in tables.items()}
        return rows | {"k": parts.factored.k}


def _entities(parts: Parts, block: block_inputs.Block) -> Iterator[pa.Table]:
    for rows in _steps(len(block.X)):
        side = parts.factored.entities(np.ascontiguousarray(block.X[rows]), parts.layout.default)
        ids = {"entity_id": block.entity_id[rows], "match_id": pa.array(block.match_id[rows], pa.string())}
        yield pa.table(ids | _side(side))


def _entries(block: block_inputs.Block) -> Iterator[pa.Table]:
    """Entries with the ids of their entities, field by field: an entity has at most one per field and key."""
    match_id, entities = pa.array(block.match_id, pa.string()), np.arange(len(block.X))
    for field, ends in enumerate(block.indptr):
        found = slice(int(ends[0]), int(ends[-1]))
        entity = pa.array(np.repeat(entities, np.diff(ends)))
        yield pa.table(
            {
                "entity_id": block.entity_id.take(entity),
                "match_id": match_id.take(entity),
                "field": pa.array(np.full(len(entity), field, np.int32)),
                "key": pa.array(block.key[found]),
                "feature": pa.array(block.feature[found]),
            }
        )


def _candidates(parts: Parts) -> Iterator[pa.Table]:
    offers = block_inputs.offers(parts.inputs)
    _refuse_missing("candidate", offers.X)
    match_id = np.repeat(list(offers.of_match), [rows.stop - rows.start for rows in offers.of_match.values()])
    for rows in _steps(len(offers.X)):
        side = parts.factored.candidates(np.ascontiguousarray(offers.X[rows]), parts.layout.default)
        ids = {"candidate_id": offers.candidate_id[rows], "match_id": pa.array(match_id[rows], pa.string())}
        yield pa.table(ids | _side(side) | {"keys": _lists(offers.keys[rows])})


def _features(parts: Parts, vocabulary: list[str]) -> Iterator[pa.Table]:
    """Every feature of the pair fields; a field's own place in to_pair is zero, since it does not meet itself."""
    root = np.sqrt(parts.factored.quadratic)  # on either side of <to_pair, to_pair>, which together is R
    columns = ["field", "feature_id", "value"]
    words = pa.concat_tables([pq.ParquetFile(file).read(columns, use_threads=False) for file in vocabulary])
    for field, name in enumerate(parts.layout.names["pair"]):
        mine = words.filter(pc.equal(words["field"], name))
        table = parts.factored.table(field, mine["feature_id"].to_numpy().astype(np.int32), parts.layout.default)
        to_pair = table.to_pair * root
        to_pair[:, field] = 0.0
        yield pa.table(
            {
                "field": pa.array(np.full(mine.num_rows, field, np.int32)),
                "feature": pa.array(table.ids),
                "value": mine["value"],
                "is_default": pa.array(table.ids == parts.layout.default[field]),
                "constant": pa.array(table.own),
                "to_entity": _lists(table.to_entity),
                "to_candidate": _lists(table.to_candidate),
                "to_pair": _lists(to_pair),
            }
        )


def _side(side: Side) -> dict[str, pa.Array]:
    lists = {"vector": _lists(side.vectors), "to_pairs": _lists(side.to_pairs)}
    return {"constant": pa.array(side.constant)} | lists


def _lists(values: np.ndarray) -> pa.Array:
    """One list per row of values [n, …]."""
    flat = values.reshape(len(values), int(np.prod(values.shape[1:])))
    offsets = np.arange(len(flat) + 1, dtype=np.int32) * np.int32(flat.shape[1])
    return pa.ListArray.from_arrays(offsets, np.ascontiguousarray(flat).reshape(-1))


def _steps(rows: int) -> Iterator[slice]:
    for first in range(0, rows, STEP):
        yield slice(first, min(first + STEP, rows))


def _write(out: Path, name: str, number: int, tables: Iterator[pa.Table]) -> int:
    """Write file `number` of folder `name`, under another name first: a task that is tried again never leaves half a
    file. Returns its rows."""
    path, rows = out / name / f"part-{number:05d}.parquet", 0
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # Dictionaries of floats, which hardly repeat, would cost time and save nothing.
    repeated, schema = [column for column, kind in SCHEMAS[name] if kind == TEXT], pa.schema(SCHEMAS[name])
    options = {"compression": "zstd", "compression_level": 1, "store_schema": False}
    with pq.ParquetWriter(unfinished, schema, use_dictionary=repeated, **options) as writer:
        for table in tables:
            writer.write_table(table.cast(schema))
            rows += table.num_rows
    unfinished.replace(path)
    return rows


def _refuse_missing(side: str, features: np.ndarray) -> None:
    """Without a feature in every field R would differ from pair to pair, and no vector could have it inside."""
    if (features == MISSING).any():
        raise ValueError(f"{side} features must be there for every field to make vectors, got {MISSING}")
