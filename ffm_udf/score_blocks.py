"""What runs inside a Spark task: score all pairs of one block of entities and write them as Parquet.

A block's folder appears whole (renamed into place) or not at all, so a rerun goes on with the blocks that are missing:

    scores.parquet      every pair, by entity and rank (only if the task is `full`)
    entity_top.parquet  the highest pairs of every entity
    candidate_top.parquet  the block's highest pairs of every candidate
    entities.parquet, candidates.parquet  sums over the pairs of each
    stats.json          counts, times, memory, sizes of the files, and a hash of ids and values; written last
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

from ffm_udf import allpairs, block_inputs, calibration, scoring
from ffm_udf.allpairs_kernels import expander, finisher, gatherer
from ffm_udf.cost import measured
from ffm_udf.heartbeat import EVERY, FINISHED, beat
from ffm_udf.pair_features import PairFeatures
from ffm_udf.ranking import TopPerColumn, descending, keeper, picker, top_of_rows
from ffm_udf.score_columns import Constants, Ids, PairRows

ROW_GROUP = 1 << 16  # rows: what a lookup of one entity has to read
STATS = "stats.json"
PAIR_FILES = ("scores", "entity_top", "candidate_top")
ENTITY_SUMS = {"entity": np.int64, "candidates": np.int64, "sum_p": float, "min_p": float, "max_p": float,
               "best": np.int64, "sum_oov_share": float}  # fmt: skip
CANDIDATE_SUMS = {"candidate": np.int64, "entities": np.int64, "sum_p": float, "max_p": float}
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

    `task`: block (number), inputs (folder of score_inputs), model (folder), calibrator (as in a card), fallback
    (None, or model folder, calibrator and max_oov_share of what scores pairs with more unknown fields than that),
    constants (model_id, calibrator_id, score_date, scored_at, data_through, source), top_n, full (write every pair),
    out (the block's folder to be), heartbeat (file).
    """
    out = Path(task["out"])
    if (stats := finished(out)) is not None:
        beat(Path(task["heartbeat"]), "scoring", FINISHED)
        return stats | {"is_resumed": True}
    jit_s = compile_kernels()
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    with measured() as cost:
        found = _Scoring(task, unfinished).run()
    files = {file.name: file.stat().st_size for file in unfinished.iterdir()}
    stats = found | {
        "block": task["block"],
        "wall_s": cost.wall_s,
        "cpu_s": cost.cpu_s,
        "jit_s": jit_s,
        "peak_rss_mib": cost.peak_rss_mib,
        "bytes_written": sum(files.values()),
        "files": files,
        "worker": f"{os.getpid()}@{socket.gethostname()}",
        "model_loads": scoring.loads(task["model"]),
    }
    (unfinished / STATS).write_text(json.dumps(stats))
    _settle(unfinished, out)
    beat(Path(task["heartbeat"]), "scoring", FINISHED)
    return stats | {"is_resumed": False}


def finished(out: Path) -> dict[str, Any] | None:
    """The stats of a block that was scored before; None if there is none, or a file is not as long as it was."""
    try:
        stats = json.loads((out / STATS).read_text())
        sizes = {name: (out / name).stat().st_size for name in stats["files"]}
    except (OSError, ValueError, KeyError):
        return None
    return stats if sizes == stats["files"] else None


def _settle(unfinished: Path, out: Path) -> None:
    """Rename into place what is safely on disk; another attempt's finished block stays."""
    for path in (*unfinished.iterdir(), unfinished):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    if out.exists() and finished(out) is None:
        shutil.rmtree(out, ignore_errors=True)
    try:
        unfinished.rename(out)
    except OSError:
        if finished(out) is None:
            raise
        shutil.rmtree(unfinished, ignore_errors=True)


class _Scoring:
    """One block on its way: model, inputs, the files being written, and what is summed over the pairs."""

    def __init__(self, task: dict[str, Any], out: Path) -> None:
        self.task, self.out, self.clock = task, out, Clock()
        self.layout = block_inputs.layout(task["inputs"])
        self.sides, self.unknown = self.layout.sides, self.layout.unknown
        self.calibrator = calibration.load(task["calibrator"])
        self.constants = Constants.of(task["constants"])
        self.hash, self.pairs = hashlib.sha256(), 0
        fallback = task["fallback"]
        self.most_unknown = self.sides.n_fields * (fallback["max_oov_share"] if fallback else 1)

    def run(self) -> dict[str, Any]:
        with self.clock.stage("read"):
            self.model = scoring.opened(self.task["model"]).model
            self.block = block_inputs.block(self.task["inputs"], self.task["block"], self.layout)
            self.offers = block_inputs.offers(self.task["inputs"])
            matches, of_entity = np.unique(self.block.match_id.astype(str), return_inverse=True)  # no match: "None"
            ids = Ids(
                self.block.entity_id, self.offers.candidate_id, pa.array(matches.tolist(), pa.string()), of_entity
            )
        self.writers: dict[str, pq.ParquetWriter] = {}
        self.pair_rows = {name: PairRows(ids, self.sides.n_fields, self.constants) for name in PAIR_FILES}
        self.sums: dict[str, list[dict[str, np.ndarray]]] = {"entities": [], "candidates": []}
        self.engines: set[str] = set()
        self.beaten = 0.0
        for match, rows in block_inputs.groups(self.block.match_id):
            if match in self.offers.of_match:
                self._score_match(rows, self.offers.of_match[match])
        with self.clock.stage("write"):
            for name in PAIR_FILES:
                self._flush(name)
            self._write("entities", self._entity_sums())
            self._write("candidates", self._candidate_sums())
            for writer in self.writers.values():
                writer.close()
        return {
            "entities": len(self.block.X),
            "pairs": self.pairs,
            "engines": sorted(self.engines),
            "sha256": self.hash.hexdigest(),
            **{f"{stage}_s": seconds for stage, seconds in self.clock.seconds.items()},
        }

    def _score_match(self, rows: slice, offered: slice) -> None:
        """Score the entities `rows` on the candidates `offered`, which have the same match."""
        X_u, X_c = self.block.X[rows], self.offers.X[offered]
        with self.clock.stage("prepare"):
            indptr = np.ascontiguousarray(self.block.indptr[:, rows.start : rows.stop + 1])
            entries = self.block.key, self.block.feature
            pairs = PairFeatures(self.offers.keys[offered], self.layout.keys, indptr, *entries, self.layout.default)
            self.engines.add(allpairs.engine(self.model, pairs))
            stream = allpairs.chunks(self.model, self.sides, X_u, X_c, pairs, self.unknown)
            for ids, part in ((self.block.entity_id, rows), (self.offers.candidate_id, offered)):
                self.hash.update("\0".join(ids.slice(part.start, part.stop - part.start).to_pylist()).encode())
        top, sums = TopPerColumn(len(X_c), self.task["top_n"]), (np.zeros(len(X_c)), np.full(len(X_c), -np.inf))
        while True:
            with self.clock.stage("score"):
                chunk = next(stream, None)
                if chunk is None:
                    break
                first, Z, unknown = chunk
                self._fall_back(first, Z, unknown, X_u, X_c, pairs)
                p = self.calibrator.float32(Z)
            self._keep(first + rows.start, offered.start, Z, p, unknown, top, sums)
            self._beat()
        with self.clock.stage("write"):
            place, n = np.arange(offered.start, offered.stop), np.full(len(X_c), len(X_u), np.int64)
            self.sums["candidates"].append({"candidate": place, "entities": n, "sum_p": sums[0], "max_p": sums[1]})
            self._add_candidate_top(top, rows.start, offered.start)

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
        scaled = calibration.load(fallback["calibrator"]).logit(other)
        Z[entity, candidate] = self.calibrator.inverse(scaled)

    def _keep(
        self,
        first: int,
        offered: int,
        Z: np.ndarray,
        p: np.ndarray,
        unknown: np.ndarray,
        top: TopPerColumn,
        sums: tuple[np.ndarray, np.ndarray],
    ) -> None:
        """Rank and write a chunk and add it to the sums. Row i of the arrays is entity first + i of the block, column j
        candidate offered + j."""
        n, m = Z.shape
        kept = min(self.task["top_n"], m)
        with self.clock.stage("rank"):
            top.keep(Z, unknown, first)
            order = descending(Z) if self.task["full"] else top_of_rows(Z, kept)[1]
            values = {"p": p, "raw_score": Z, "unknown": unknown}
            ranked = {name: np.take_along_axis(found, order, 1) for name, found in values.items()}
            for found in (order, *ranked.values()):
                self.hash.update(found.tobytes())
            sums[0][:] += p.sum(axis=0, dtype=np.float64)
            np.maximum(sums[1], p.max(axis=0), out=sums[1])
            self.pairs += n * m
        with self.clock.stage("write"):
            if self.task["full"]:
                self._add_ranked("scores", first, offered, order, ranked)
            best = {name: found[:, :kept] for name, found in ranked.items()}
            self._add_ranked("entity_top", first, offered, order[:, :kept], best)
            self.sums["entities"].append(
                {
                    "entity": np.arange(first, first + n),
                    "candidates": np.full(n, m, np.int64),
                    "sum_p": p.sum(axis=1, dtype=np.float64),
                    "min_p": p.min(axis=1).astype(np.float64),
                    "max_p": ranked["p"][:, 0].astype(np.float64),
                    "best": order[:, 0] + offered,
                    "sum_oov_share": unknown.sum(axis=1, dtype=np.float64) / self.sides.n_fields,
                }
            )

    def _add_ranked(
        self, name: str, first: int, offered: int, order: np.ndarray, ranked: dict[str, np.ndarray]
    ) -> None:
        """Rows of entities first, first + 1, … each with its candidates offered + `order` [n, ranks] and the values."""
        n, ranks = order.shape
        columns = {
            "entity": np.repeat(np.arange(first, first + n, dtype=np.int32), ranks),
            "candidate": order.reshape(-1) + np.int32(offered),
            "rank_in_entity": np.tile(np.arange(1, ranks + 1, dtype=np.int32), n),
        }
        self._add(name, columns | {value: found.reshape(-1) for value, found in ranked.items()})

    def _add_candidate_top(self, top: TopPerColumn, first: int, offered: int) -> None:
        candidate, slot = np.nonzero(top.place >= 0)
        raw = top.score[candidate, slot]
        columns = {"entity": top.place[candidate, slot], "candidate": (candidate + offered).astype(np.int32)}
        values = {"p": self.calibrator.float32(raw), "raw_score": raw, "unknown": top.noted[candidate, slot]}
        self._add("candidate_top", columns | values)

    def _add(self, name: str, columns: dict[str, np.ndarray]) -> None:
        self.pair_rows[name].add(columns | {"falls_back": columns["unknown"] > self.most_unknown})
        if self.pair_rows[name].rows >= ROW_GROUP:
            self._flush(name)

    def _flush(self, name: str) -> None:
        if self.pair_rows[name].rows:
            self._write(name, self.pair_rows[name].take())

    def _write(self, name: str, table: pa.Table) -> None:
        if name not in self.writers:
            path, options = self.out / f"{name}.parquet", {"compression": "zstd", "compression_level": 1}
            self.writers[name] = pq.ParquetWriter(path, table.schema, store_schema=False, **options)
        self.writers[name].write_table(table, row_group_size=ROW_GROUP)

    def _beat(self) -> None:
        """Say how far it is, once a second: there can be thousands of small matches."""
        if time.monotonic() - self.beaten >= EVERY:
            beat(Path(self.task["heartbeat"]), "scoring", self.pairs)
            self.beaten = time.monotonic()

    def _entity_sums(self) -> pa.Table:
        """One row per entity with something on offer."""
        found = _joined(self.sums["entities"], ENTITY_SUMS)
        entity, best = found.pop("entity"), found.pop("best")
        ids = {"entity_id": self.block.entity_id.take(pa.array(entity, pa.int64()))}
        ids["match_id"] = pa.array(self.block.match_id[entity.astype(np.int64)], pa.string())
        columns = ids | {name: pa.array(values) for name, values in found.items()}
        columns["best_candidate_id"] = self.offers.candidate_id.take(pa.array(best, pa.int64()))
        return pa.table(columns)

    def _candidate_sums(self) -> pa.Table:
        """One row per candidate, whatever its matches."""
        found = _joined(self.sums["candidates"], CANDIDATE_SUMS)
        ids = self.offers.candidate_id.take(pa.array(found.pop("candidate"), pa.int64()))
        joined = pa.table({"candidate_id": ids} | {name: pa.array(values) for name, values in found.items()})
        how = [("entities", "sum"), ("sum_p", "sum"), ("max_p", "max")]
        grouped = joined.group_by("candidate_id", use_threads=False).aggregate(how)
        return grouped.rename_columns(["candidate_id", "entities", "sum_p", "max_p"]).sort_by("candidate_id")


def _joined(parts: list[dict[str, np.ndarray]], columns: dict[str, Any]) -> dict[str, np.ndarray]:
    return {
        name: np.concatenate([np.zeros(0, kind), *(part[name] for part in parts)]) for name, kind in columns.items()
    }
