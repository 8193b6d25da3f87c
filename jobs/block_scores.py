"""All pairs of a cycle scored by one model: a Spark task per block of entities, then five data sets of their results.

    work/<key>/plan.json           when scoring began; blocks of an interrupted run lie beside it
    work/<key>/block-00007/        a finished block (ffm_udf/score_blocks.py)

Finished blocks are linked into the lake, not copied. A run that was stopped goes on with the blocks that are missing.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import InheritableThread
from pyspark.sql import SparkSession

from ffm_udf import heartbeat, score_blocks
from ffm_udf.heartbeat import Beat
from jobs import durable, facts, models, score_files, score_inputs
from jobs.calibrators import calibrator_id
from jobs.cycle import Cycle
from jobs.lake import Dataset, write_json
from jobs.serving import Serving, fallback
from jobs.watched_job import Job

STALL = 300.0  # seconds without a finished chunk of pairs after which scoring is given up
PARTS = ("scores", "top_scores", "score_entities", "score_candidates", "score_blocks")


class ScoreError(RuntimeError):
    """Scores that must not be seen; the message says what is wrong with how many of them."""


@dataclass(frozen=True)
class BlockStep:
    """The step that scores one block."""

    task: dict[str, Any]

    def __str__(self) -> str:
        return f"scoring of block {self.task['block']}"

    def last_beat(self) -> Beat | None:
        return heartbeat.last_beat(Path(self.task["heartbeat"]), "scoring")

    def progress(self, beat: Beat) -> str:
        return f"{beat.done:,} pairs scored"


@dataclass(frozen=True)
class Scored:
    """The data sets of one model's scores by name (PARTS), and whether all were there already."""

    datasets: dict[str, Dataset]
    reused: bool

    @property
    def blocks(self) -> list[dict[str, Any]]:
        """The rows of the fact `score_blocks`."""
        return self.datasets["score_blocks"].table().to_pylist()

    @property
    def sha256(self) -> str:
        """Over ids, ranks, scores and unknown fields of all pairs, in the order of the blocks."""
        return self.datasets["score_blocks"].manifest["params"]["sha256"]

    @property
    def engine(self) -> str:
        """all_pairs, rows, or both."""
        return self.datasets["score_blocks"].manifest["params"]["engine"]

    def first_row(self) -> dict[str, Any]:
        """One of the scores (or, without them, of the top scores): what is the same for all of them."""
        name = next(name for name in ("scores", "top_scores") if name in self.datasets)
        return pq.ParquetFile(self.datasets[name].files[0]).read_row_group(0).slice(0, 1).to_pylist()[0]


def score_step(step: BlockStep) -> dict[str, Any]:
    """Score the step's block; its stats."""
    return score_blocks.score_block(step.task)


def inputs_of(cycle: Cycle, spark: SparkSession, serving: Serving) -> Dataset:
    """The score_inputs of a model: with its own vocabulary and base rate, those of the night it was trained.

    Raises InputsError for lists that cannot be scored.
    """
    lineage = models.read_card(cycle.warehouse, serving.model_id)["lineage"]
    vocabulary = cycle.lake.get("vocabulary", lineage["vocabulary"]["key"]).table()
    return score_inputs.make(cycle, spark, vocabulary, lineage["base_rate"])[0]


@contextlib.contextmanager
def warmed_up(cycle: Cycle, spark: SparkSession, serving: Serving) -> Generator[None]:
    """Make the workers ready for scoring while the inputs are being made: imports, kernels and the model."""
    folder = str(models.model_folder(cycle.warehouse, serving.model_id).resolve())
    slots = spark.sparkContext.defaultParallelism

    def work() -> None:
        with contextlib.suppress(Exception):  # what is wrong with the model, scoring itself will say
            spark.sparkContext.parallelize([folder] * slots, slots).map(score_blocks.warm_up).collect()

    thread = InheritableThread(target=work)
    thread.daemon = True
    thread.start()
    yield
    thread.join()


def score(
    cycle: Cycle,
    spark: SparkSession,
    serving: Serving,
    inputs: Dataset,
    stall_timeout: float = STALL,
    full: bool = True,
) -> Scored:
    """The scores of `serving` for every pair of `inputs`. Nothing is remembered in the cycle: the caller audits first.

    Not `full`: only the best of each entity and candidate, no data set `scores`. Raises JobError if a block fails,
    ScoreError if there are no pairs.
    """
    instead = fallback(cycle, serving)
    params = {
        "model": serving.model_id,
        "source": serving.source,
        "calibrator": serving.calibrator,
        "fallback": instead and {name: instead[name] for name in ("model_id", "calibrator", "max_oov_share")},
        "date": cycle.date,
        "top_n": cycle.contract.top_n,
        "full": full,
    }
    contents = {"score_inputs": inputs.content}
    parts = PARTS if full else PARTS[1:]
    keys = {name: cycle.lake.key(name, __name__, contents, params) for name in parts}
    work = cycle.warehouse / "work" / keys["score_blocks"]
    # A second run of the same scores waits for the first, and then finds them.
    with durable.locked(work.with_name(f".{work.name}.lock")):
        found = {name: cycle.lake.find(name, key) for name, key in keys.items()}
        whole = {name: dataset for name, dataset in found.items() if dataset is not None}
        if len(whole) == len(parts):
            return Scored(whole, True)
        tasks = [task | {"full": full} for task in _tasks(cycle, serving, instead, inputs, work, whole)]
        stats = _run(cycle, spark, tasks, stall_timeout)
        return Scored(_commit(cycle, work, stats, keys, contents, params), False)


def _tasks(
    cycle: Cycle,
    serving: Serving,
    instead: dict[str, Any] | None,
    inputs: Dataset,
    work: Path,
    whole: dict[str, Dataset],
) -> list[dict[str, Any]]:
    """A task per block. `whole`: data sets of these scores that are there already, where others were taken away."""
    plan = work / "plan.json"
    if not plan.exists():
        began = dt.datetime.now(dt.UTC).replace(tzinfo=None, microsecond=0)
        if {"scores", "top_scores"} & set(whole):
            began = Scored(whole, True).first_row()["scored_at"]
        write_json(plan, {"scored_at": began.isoformat()})
    constants = {
        "model_id": serving.model_id,
        "calibrator_id": calibrator_id(serving.calibrator),
        "score_date": str(cycle.date),
        "scored_at": json.loads(plan.read_text())["scored_at"],
        "data_through": cycle.periods.data_through.replace(tzinfo=None).isoformat(),
        "source": serving.source,
    }
    root = inputs.root
    common = {
        "inputs": str(root),
        "model": str(models.model_folder(cycle.warehouse, serving.model_id).resolve()),
        "calibrator": serving.calibrator,
        "fallback": instead,
        "constants": constants,
        "top_n": cycle.contract.top_n,
    }
    blocks = json.loads((root / "layout.json").read_text())["blocks"]
    # A folder of this run's own: tasks of an earlier one may outlive it.
    beats = work / "heartbeats" / uuid.uuid4().hex
    beats.mkdir(parents=True)
    return [
        common
        | {
            "block": number,
            "out": str(work / f"block-{number:05d}"),
            "heartbeat": str(beats / str(number)),
        }
        for number in range(blocks)
    ]


def _run(
    cycle: Cycle, spark: SparkSession, tasks: Sequence[dict[str, Any]], stall_timeout: float
) -> list[dict[str, Any]]:
    """The stats of all blocks, told one by one, or a tenth at a time if there are many."""
    steps = [BlockStep(task) for task in tasks]
    done = [task for task in tasks if score_blocks.finished(Path(task["out"])) is not None]
    if done:
        cycle.progress.note(f"{len(done)} of {len(tasks)} blocks were scored by an earlier run")
    every, told = max(1, len(tasks) // 10), 0

    def finished(place: int) -> None:
        nonlocal told
        told += 1
        if told % every == 0 and len(tasks) > 1:
            cycle.progress.note(f"{told} of {len(tasks)} blocks scored")

    return Job(spark.sparkContext, "scoring", steps, score_step, stall_timeout, finished).results()


def _commit(
    cycle: Cycle,
    work: Path,
    stats: list[dict[str, Any]],
    keys: dict[str, str],
    contents: dict[str, str],
    params: dict[str, Any],
) -> dict[str, Dataset]:
    """Make the finished blocks data sets of the lake and remove them from `work`."""
    if not sum(block["pairs"] for block in stats):
        raise ScoreError("scores must be complete, got no scores at all: no entity has a candidate on offer")
    # A block whose entities have nothing on offer has no pairs to write.
    folders = [work / f"block-{block['block']:05d}" for block in stats if block["pairs"]]
    engine = " and ".join(sorted({engine for block in stats for engine in block["engines"]}))
    total = hashlib.sha256("\n".join(block["sha256"] for block in stats).encode()).hexdigest()
    writers = {
        "scores": lambda out: link_files([folder / "scores.parquet" for folder in folders], out),
        "top_scores": lambda out: _top_scores(folders, cycle.contract.top_n, out),
        "score_entities": lambda out: _copy(
            folders, "entities.parquet", "select * from blocks order by entity_id", out
        ),
        "score_candidates": lambda out: _copy(folders, "candidates.parquet", SUM_CANDIDATES, out),
        "score_blocks": lambda out: pq.write_table(_block_rows(stats), out / "part-0.parquet"),
    }
    for name, key in keys.items():
        if cycle.lake.find(name, key) is None:
            with cycle.lake.writing(name, key, contents, params | {"sha256": total, "engine": engine}) as out:
                writers[name](out)
    shutil.rmtree(work, ignore_errors=True)
    return {name: cycle.lake.get(name, key) for name, key in keys.items()}


def link_files(files: Sequence[Path | str], out: Path) -> None:
    """Files under the names of a data set's parts, without a copy where storage can link; OSError if one is gone."""
    for number, source in enumerate(files):
        target = out / f"part-{number:05d}.parquet"
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


# In the blocks' order: sums of floating point numbers depend on it.
SUM_CANDIDATES = """
    select candidate_id, sum(entities)::bigint as entities, sum(sum_p order by block) as sum_p, max(max_p) as max_p
    from blocks
    group by candidate_id
    order by candidate_id
"""
TOP = """
    with by_candidate as (
        select *, row_number() over (partition by candidate_id order by raw_score desc, entity_id, match_id) as place
        from of_candidates
    ),
    both_sides as (
        select entity_id, candidate_id, match_id, rank_in_entity, null as rank_in_candidate from of_entities
        union all
        select entity_id, candidate_id, match_id, null, place from by_candidate where place <= {top_n}
    ),
    ranked as (
        select
            entity_id, candidate_id, match_id,
            max(rank_in_entity)::integer as rank_in_entity, max(rank_in_candidate)::integer as rank_in_candidate
        from both_sides
        group by all
    ),
    rows as (
        select * exclude (rank_in_entity) from of_entities
        union
        select * from of_candidates
    )
    select {columns}
    from ranked
    inner join rows using (entity_id, candidate_id, match_id)
    order by entity_id, rank_in_entity nulls last, candidate_id, match_id
"""


def _top_scores(folders: list[Path], top_n: int, out: Path) -> None:
    columns = ", ".join(facts.FACTS["top_scores"].names)
    with score_files.connection() as db:
        for view, name in (("of_entities", "entity_top"), ("of_candidates", "candidate_top")):
            db.execute(f"create view {view} as from {score_files.scan(_files(folders, f'{name}.parquet'))}")
        target = score_files.quoted(str(out / "part-00000.parquet"))
        db.execute(f"copy ({TOP.format(top_n=top_n, columns=columns)}) to {target} (format parquet)")


def _copy(folders: list[Path], name: str, query: str, out: Path) -> None:
    """One file of what `query` finds in `blocks`: the rows of all blocks and the number of each row's block."""
    with score_files.connection() as db:
        parts = [
            f"select *, {number} as block from {score_files.scan([file])}"
            for number, file in enumerate(_files(folders, name))
        ]
        db.execute(f"create view blocks as {' union all '.join(parts)}")
        columns = ", ".join(facts.FACTS[out.parent.parent.name].names)
        target = score_files.quoted(str(out / "part-00000.parquet"))
        db.execute(f"copy (select {columns} from ({query})) to {target} (format parquet)")


def _files(folders: list[Path], name: str) -> list[str]:
    return [str(folder / name) for folder in folders]


def _block_rows(stats: list[dict[str, Any]]) -> pa.Table:
    names = facts.FACTS["score_blocks"].names
    return facts.table("score_blocks", [{name: block[name] for name in names} for block in stats])
