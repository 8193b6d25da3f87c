"""What runs inside a Spark task: score all pairs of one block of entities and write them as Parquet.

A block's folder appears whole (renamed into place) or not at all, so a rerun goes on with the blocks that are missing:

    scores.parquet      every pair, by entity and rank (only if the task is `full`)
    entity_top.parquet  the highest pairs of every entity
    candidate_top.parquet  the block's highest pairs of every candidate
    entities.parquet, candidates.parquet  sums over the pairs of each
    stats.json          counts, times, memory, and a hash of the values; written last
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ffm_udf import allpairs, block_inputs, scoring
from ffm_udf.allpairs_kernels import expander, finisher, gatherer
from ffm_udf.calibration import Calibrator
from ffm_udf.cost import measured
from ffm_udf.heartbeat import EVERY, FINISHED, beat
from ffm_udf.pair_features import PairFeatures, Sides
from ffm_udf.ranking import TopPerColumn, descending, keeper, picker, top_of_rows
from ffm_udf.score_columns import Constants, Pairs, pair_table

ROW_GROUP = 1 << 16  # rows: what a lookup of one entity has to read
STAGES = ("read", "prepare", "score", "rank", "write")


@dataclass
class Clock:
    """Seconds per stage."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - began


def compile_kernels() -> float:
    """Compile, or load from the cache, all kernels a block needs but the model's own; the seconds it took."""
    began = time.perf_counter()
    for kernel in (gatherer, finisher, expander, keeper, picker):
        kernel()
    return time.perf_counter() - began


def warm_up(model: str) -> float:
    """Import, compile and open what a block by this model needs, before there is a block; seconds of compilation."""
    scoring.opened(model)
    return compile_kernels()


def score_block(task: dict[str, Any]) -> dict[str, Any]:
    """Score one block; what stats.json says.

    `task`: block (number), inputs (folder of score_inputs), model (folder), calibrator {slope, intercept}, fallback
    (None, or model folder, calibrator and max_oov_share of what scores pairs with more unknown fields than that),
    constants (model_id, calibrator_id, score_date, scored_at, data_through, source), top_n, full (write every pair),
    out (the block's folder to be), heartbeat (file).
    """
    out = Path(task["out"])
    if (out / "stats.json").exists():
        return json.loads((out / "stats.json").read_text()) | {"is_resumed": True}
    jit_s = compile_kernels()
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    with measured() as cost:
        found = _Scoring(task, unfinished).run()
    stats = found | {
        "block": task["block"],
        "wall_s": cost.wall_s,
        "cpu_s": cost.cpu_s,
        "jit_s": jit_s,
        "peak_rss_mib": cost.peak_rss_mib,
        "bytes_written": sum(file.stat().st_size for file in unfinished.iterdir()),
        "worker": f"{os.getpid()}@{socket.gethostname()}",
        "model_loads": scoring.loads(task["model"]),
    }
    (unfinished / "stats.json").write_text(json.dumps(stats))
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)
    beat(Path(task["heartbeat"]), "scoring", FINISHED)
    return stats | {"is_resumed": False}


class _Scoring:
    """One block on its way: model, inputs, the files being written, and what is summed over the pairs."""

    def __init__(self, task: dict[str, Any], out: Path) -> None:
        self.task, self.out, self.clock = task, out, Clock()
        self.layout = json.loads((Path(task["inputs"]) / "layout.json").read_text())
        self.calibrator = Calibrator(**task["calibrator"])
        self.constants = Constants.of(task["constants"])
        self.hash, self.pairs = hashlib.sha256(), 0
        place = {name: at for at, name in enumerate(self.layout["fields"])}
        self.sides = Sides(*(tuple(place[n] for n in self.layout[side]) for side in ("entity", "candidate", "pair")))
        self.default = np.array([self.layout["default"][name] for name in self.layout["pair"]], np.int32)
        fallback = task["fallback"]
        self.most_unknown = fallback["max_oov_share"] * len(place) if fallback else len(place)
        self.unknown = np.array([self.layout["oov"][name] for name in self.layout["fields"]], np.int32)

    def run(self) -> dict[str, Any]:
        with self.clock.stage("read"):
            self.model = scoring.opened(self.task["model"]).model
            self.block = block_inputs.block(self.task["inputs"], self.task["block"], self.layout)
            self.offers = block_inputs.offers(self.task["inputs"])
        self.writers: dict[str, pq.ParquetWriter] = {}
        self.waiting: dict[str, list[pa.Table]] = {}
        self.beaten = 0.0
        self.of_candidates: list[pa.Table] = []
        for match, rows in block_inputs.groups(self.block.match_id):
            if match in self.offers.of_match:
                self._score_match(match, rows, self.offers.of_match[match])
        with self.clock.stage("write"):
            self._write("candidates", _summed(self.of_candidates))
            for name in list(self.waiting):
                self._flush(name)
            for writer in self.writers.values():
                writer.close()
        return {
            "entities": len(self.block.X),
            "pairs": self.pairs,
            "sha256": self.hash.hexdigest(),
            **{f"{stage}_s": seconds for stage, seconds in self.clock.seconds.items()},
        }

    def _score_match(self, match: str, rows: slice, offered: slice) -> None:
        """Score the entities `rows` on the candidates `offered`, which have the same match."""
        X_u, X_c = self.block.X[rows], self.offers.X[offered]
        with self.clock.stage("prepare"):
            indptr = np.ascontiguousarray(self.block.indptr[:, rows.start : rows.stop + 1])
            keys = tuple(self.layout["keys"][name] for name in self.layout["pair"])
            pairs = PairFeatures(
                self.offers.keys[offered], keys, indptr, self.block.key, self.block.feature, self.default
            )
            stream = allpairs.chunks(self.model, self.sides, X_u, X_c, pairs, self.unknown)
        top = TopPerColumn(len(X_c), self.task["top_n"])
        sums = np.zeros(len(X_c)), np.full(len(X_c), -np.inf)
        candidate_id = self.offers.candidate_id.slice(offered.start, len(X_c))
        while True:
            with self.clock.stage("score"):
                chunk = next(stream, None)
                if chunk is None:
                    break
                first, Z, unknown = chunk
                self._fall_back(first, Z, unknown, X_u, X_c, pairs)
                p = self.calibrator.float32(Z)
            self._keep(first + rows.start, Z, p, unknown, top, sums, candidate_id, match)
            self._beat()
        with self.clock.stage("write"):
            found = {"candidate_id": candidate_id, "entities": pa.array(np.full(len(X_c), len(X_u), np.int64))}
            self.of_candidates.append(pa.table(found | {"sum_p": pa.array(sums[0]), "max_p": pa.array(sums[1])}))
            self._write_candidate_top(top, candidate_id, match)

    def _fall_back(
        self, first: int, Z: np.ndarray, unknown: np.ndarray, X_u: np.ndarray, X_c: np.ndarray, pairs: PairFeatures
    ) -> None:
        """Pairs with too many unknown fields get the fallback's score, on the scale of this model's raw scores."""
        fallback = self.task["fallback"]
        if fallback is None:
            return
        entity, candidate = np.nonzero(unknown > self.most_unknown)
        if not len(entity):
            return
        X = pairs.rows(self.sides, X_u, X_c, entity + first, candidate)
        other = scoring.opened(fallback["model"]).model.decision_function(X)
        scaled = Calibrator(**fallback["calibrator"]).logit(other)
        Z[entity, candidate] = self.calibrator.inverse(scaled)

    def _keep(
        self,
        first: int,
        Z: np.ndarray,
        p: np.ndarray,
        unknown: np.ndarray,
        top: TopPerColumn,
        sums: tuple[np.ndarray, np.ndarray],
        candidate_id: pa.Array,
        match: str,
    ) -> None:
        """Rank and write a chunk and add it to the sums. Row i of the arrays is entity first + i of the block."""
        n, m = Z.shape
        kept = min(self.task["top_n"], m)
        with self.clock.stage("rank"):
            top.keep(Z, unknown, first)
            order = descending(Z) if self.task["full"] else top_of_rows(Z, kept)[1]
            ranked = [np.take_along_axis(values, order, 1) for values in (p, Z, unknown)]
            self.hash.update(order.tobytes() + ranked[1].tobytes())
            sums[0][:] += p.sum(axis=0, dtype=np.float64)
            np.maximum(sums[1], p.max(axis=0), out=sums[1])
            self.pairs += n * m
        with self.clock.stage("write"):
            if self.task["full"]:
                self._write_ranked("scores", first, order, ranked, candidate_id, match)
            self._write_ranked(
                "entity_top", first, order[:, :kept], [values[:, :kept] for values in ranked], candidate_id, match
            )
            summary = {
                "entity_id": self.block.entity_id.slice(first, n),
                "match_id": pa.repeat(match, n),
                "candidates": pa.array(np.full(n, m, np.int64)),
                "sum_p": pa.array(p.sum(axis=1, dtype=np.float64)),
                "min_p": pa.array(p.min(axis=1).astype(np.float64)),
                "max_p": pa.array(ranked[0][:, 0].astype(np.float64)),
                "best_candidate_id": candidate_id.take(pa.array(order[:, 0])),
                "sum_oov_share": pa.array(unknown.sum(axis=1, dtype=np.float64) / self.sides.n_fields),
            }
            self._write("entities", pa.table(summary))

    def _write_ranked(
        self,
        name: str,
        first: int,
        order: np.ndarray,
        ranked: list[np.ndarray],
        candidate_id: pa.Array,
        match: str,
    ) -> None:
        """Rows of entities first, first + 1, … each with its candidates `order` [n, ranks] and their values."""
        n, ranks = order.shape
        rank = np.tile(np.arange(1, ranks + 1, dtype=np.int32), n)
        entity = np.repeat(np.arange(n, dtype=np.int32), ranks)
        pairs = self._pairs(entity, order.reshape(-1), match, *(values.reshape(-1) for values in ranked))
        ids = self.block.entity_id.slice(first, n), candidate_id
        self._write(name, pair_table(*ids, pairs, self.sides.n_fields, self.constants, {"rank_in_entity": rank}))

    def _write_candidate_top(self, top: TopPerColumn, candidate_id: pa.Array, match: str) -> None:
        candidate, slot = np.nonzero(top.place >= 0)
        raw = top.score[candidate, slot]
        values = self.calibrator.float32(raw), raw, top.noted[candidate, slot]
        pairs = self._pairs(top.place[candidate, slot], candidate.astype(np.int32), match, *values)
        ids = self.block.entity_id, candidate_id
        self._write("candidate_top", pair_table(*ids, pairs, self.sides.n_fields, self.constants, {}))

    def _pairs(
        self, entity: np.ndarray, candidate: np.ndarray, match: str, p: np.ndarray, raw: np.ndarray, unknown: np.ndarray
    ) -> Pairs:
        return Pairs(entity, candidate, match, p, raw, unknown, unknown > self.most_unknown)

    def _beat(self) -> None:
        """Say how far it is, once a second: there can be thousands of small matches."""
        if time.monotonic() - self.beaten >= EVERY:
            beat(Path(self.task["heartbeat"]), "scoring", self.pairs)
            self.beaten = time.monotonic()

    def _write(self, name: str, table: pa.Table) -> None:
        """Write once a row group is full: every match on its own would make row groups of a few rows."""
        waiting = self.waiting.setdefault(name, [])
        waiting.append(table)
        if sum(map(len, waiting)) >= ROW_GROUP:
            self._flush(name)

    def _flush(self, name: str) -> None:
        table = pa.concat_tables(self.waiting.pop(name)).unify_dictionaries()
        if name not in self.writers:
            path, options = self.out / f"{name}.parquet", {"compression": "zstd", "compression_level": 1}
            self.writers[name] = pq.ParquetWriter(path, table.schema, store_schema=False, **options)
        self.writers[name].write_table(table, row_group_size=ROW_GROUP)


def _summed(tables: list[pa.Table]) -> pa.Table:
    """One row per candidate of the tables, which have one per match."""
    schema = [("candidate_id", pa.string()), ("entities", pa.int64()), ("sum_p", pa.float64()), ("max_p", pa.float64())]
    joined = pa.concat_tables([pa.schema(schema).empty_table(), *tables])
    grouped = joined.group_by("candidate_id", use_threads=False)
    found = grouped.aggregate([("entities", "sum"), ("sum_p", "sum"), ("max_p", "max")])
    return found.rename_columns([name for name, _ in schema]).sort_by("candidate_id")
