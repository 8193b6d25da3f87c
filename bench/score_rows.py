"""Facts of a scoring of a hundred million pairs, in the form in which jobs/score.py leaves them, from random logits.

Blocks go through the writers of ffm_udf (dictionaries, row groups, compression) and the SQL of jobs/block_scores.py;
the numbers are normal logits, so that nothing has to be trained or multiplied first.
"""

import datetime as dt
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ffm_udf.ranking import TopPerColumn, descending
from ffm_udf.score_blocks import ROW_GROUP
from ffm_udf.score_columns import Constants, Ids, PairRows
from jobs import block_scores, score_files
from jobs.facts import FACTS, table

CANDIDATES, PER_BLOCK, FIELDS, SEED = 100, 8_000, 20, 7
DAY = dt.date(2017, 12, 18)
CONSTANTS = Constants(
    "ffm-k4-s1-refit-generated",
    "platt-generated",
    DAY,
    dt.datetime(2026, 11, 22, 3, 0),
    dt.datetime(2017, 12, 17, 22, 30),
    "model",
)
BLOCK_FILES = ("scores", "entity_top", "candidate_top", "entities", "candidates")


def write(folder, entities, top_n):
    """Facts of `entities` × CANDIDATES pairs below `folder`: name -> Parquet files."""
    blocks = -(-entities // PER_BLOCK)
    tasks = [(folder / f"block-{b:05d}", b, min(PER_BLOCK, entities - b * PER_BLOCK), top_n) for b in range(blocks)]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        stats = pool.starmap(_block, tasks, chunksize=1)
    files = {name: [str(task[0] / f"{name}.parquet") for task in tasks] for name in BLOCK_FILES}
    columns = ", ".join(FACTS["top_scores"].names)
    queries = {
        "top_scores": block_scores.TOP.format(top_n=top_n, columns=columns),
        "score_entities": "select * exclude (block) from blocks order by entity_id",
        "score_candidates": block_scores.SUM_CANDIDATES,
        "entities": "select entity_id, match_id, candidates from blocks order by entity_id",
    }
    views = {
        "top_scores": {"of_entities": files["entity_top"], "of_candidates": files["candidate_top"]},
        "score_entities": {"blocks": files["entities"]},
        "score_candidates": {"blocks": files["candidates"]},
        "entities": {"blocks": files["entities"]},
    }
    found = {"scores": files["scores"]}
    for name, query in queries.items():
        found[name] = [str(folder / f"{name}.parquet")]
        _copy(views[name], query, found[name][0])
    offered = [
        {"candidate_id": candidate, "match_id": "store-1", "label": f"Family {candidate}"}
        for candidate in _candidates().to_pylist()
    ]
    for name, rows in (
        ("candidates", offered),
        ("score_blocks", stats),
        ("scoring", [_scoring(stats)]),
    ):
        found[name] = [str(folder / f"{name}.parquet")]
        pq.write_table(table(name, rows), found[name][0])
    return found


def _candidates():
    return pa.array([f"c{number:04d}" for number in range(CANDIDATES)])


def _block(out, number, n, top_n):
    """Write the files of a block, as ffm_udf/score_blocks.py does; its row of the fact `score_blocks`."""
    out.mkdir(parents=True)
    rng = np.random.default_rng([SEED, number])
    level = np.random.default_rng(SEED).normal(-4, 1, CANDIDATES).astype(np.float32)
    Z = level + rng.normal(0, 0.7, (n, 1)).astype(np.float32) + rng.normal(0, 0.5, (n, CANDIDATES)).astype(np.float32)
    unknown = rng.choice(np.array([0, 1, 3, 6], np.int8), (n, CANDIDATES), p=[0.7, 0.2, 0.08, 0.02])
    p = (1 / (1 + np.exp(-Z))).astype(np.float32)
    ids = pa.array([f"h{u:08d}" for u in range(number * PER_BLOCK, number * PER_BLOCK + n)])
    names = Ids(ids, _candidates(), pa.array(["store-1"]), np.zeros(n, np.int32))
    order = descending(Z)
    for name, ranks in (("scores", CANDIDATES), ("entity_top", top_n)):
        first = order[:, :ranks]
        columns = {
            "entity": np.repeat(np.arange(n, dtype=np.int32), ranks),
            "candidate": first.reshape(-1),
            "rank_in_entity": np.tile(np.arange(1, ranks + 1, dtype=np.int32), n),
        }
        values = {"p": p, "raw_score": Z, "unknown": unknown}
        taken = {name: np.take_along_axis(found, first, 1).reshape(-1) for name, found in values.items()}
        _write_pairs(out / f"{name}.parquet", names, columns | taken)
    top = TopPerColumn(CANDIDATES, top_n)
    top.keep(Z, unknown, 0)
    candidate, slot = np.nonzero(top.place >= 0)
    entity = top.place[candidate, slot].astype(np.int32)
    columns = {"entity": entity, "candidate": candidate.astype(np.int32), "p": p[entity, candidate]}
    columns |= {"raw_score": Z[entity, candidate], "unknown": unknown[entity, candidate]}
    _write_pairs(out / "candidate_top.parquet", names, columns)
    _write_sums(out, number, ids, Z, p, unknown, order)
    return _stats(out, number, n)


def _write_pairs(path, names, columns):
    rows = PairRows(names, FIELDS, CONSTANTS)
    rows.add(columns | {"falls_back": np.zeros(len(columns["entity"]), bool)})
    found = rows.take()
    with pq.ParquetWriter(path, found.schema, store_schema=False, compression="zstd", compression_level=1) as writer:
        writer.write_table(found, row_group_size=ROW_GROUP)


def _write_sums(out, number, ids, Z, p, unknown, order):
    n = len(Z)
    entities = {
        "entity_id": ids,
        "match_id": pa.repeat("store-1", n),
        "candidates": np.full(n, CANDIDATES, np.int64),
        "sum_p": p.sum(axis=1, dtype=np.float64),
        "min_p": p.min(axis=1).astype(np.float64),
        "max_p": p.max(axis=1).astype(np.float64),
        "best_candidate_id": _candidates().take(pa.array(order[:, 0])),
        "sum_oov_share": unknown.sum(axis=1, dtype=np.float64) / FIELDS,
        "block": np.full(n, number),
    }
    candidates = {
        "candidate_id": _candidates(),
        "entities": np.full(CANDIDATES, n, np.int64),
        "sum_p": p.sum(axis=0, dtype=np.float64),
        "max_p": p.max(axis=0).astype(np.float64),
        "block": np.full(CANDIDATES, number),
    }
    for name, columns in (("entities", entities), ("candidates", candidates)):
        pq.write_table(pa.table(columns), out / f"{name}.parquet")


def _stats(out, number, n):
    parts = {"read_s": 0.1, "prepare_s": 0.2, "score_s": 0.5, "rank_s": 0.1, "write_s": 0.6}
    return (
        {"block": number, "entities": n, "pairs": n * CANDIDATES, "wall_s": 1.6, "cpu_s": 1.5, "jit_s": 0.0}
        | parts
        | {"peak_rss_mib": 500.0, "bytes_written": sum(path.stat().st_size for path in Path(out).iterdir())}
        | {"worker": f"{number % 2}@here", "model_loads": 1, "is_resumed": False}
    )


def _scoring(stats):
    constants = CONSTANTS
    return {
        "model_id": constants.model_id,
        "calibrator_id": constants.calibrator_id,
        "source": constants.source,
        "reason": "",
        "requested_model_id": constants.model_id,
        "is_degraded": False,
        "score_date": constants.score_date,
        "scored_at": constants.scored_at,
        "data_through": constants.data_through,
        "engine": "all_pairs",
        "entities": sum(block["entities"] for block in stats),
        "candidates": CANDIDATES,
        "pairs": sum(block["pairs"] for block in stats),
        "blocks": len(stats),
        "wall_s": 100.0,
        "cpu_s": 190.0,
        "peak_rss_mib": 500.0,
        "skew": 1.0,
        "scores_sha256": "0" * 64,
        "shadow_model_id": None,
    }


def _copy(views, query, target):
    with score_files.connection() as db:
        for name, files in views.items():
            db.execute(f"create view {name} as from {score_files.scan(files)}")
        db.execute(f"copy ({query}) to {score_files.quoted(target)} (format parquet)")
