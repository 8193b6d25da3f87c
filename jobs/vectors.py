"""The served model taken apart into vectors, from which anyone can compute p of any pair with inner products.

The data set `vectors` holds what ffm_udf/vectors.py writes, a Spark task per block of entities, and

    calibrator/      calibrator_id, slope, intercept: p = 1 / (1 + exp(-(slope · logit + intercept)))
    vectors.json     which model, on data through when, fields by side, sizes, the formula in words

    vectors/<contract> -> ../lake/vectors/<key>/<run>    those of the scores that readers see; replaced in one rename
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from ffm_udf import heartbeat, vectors
from ffm_udf.heartbeat import Beat
from jobs import durable, models
from jobs.calibrators import calibrator_id
from jobs.cycle import Cycle
from jobs.lake import Dataset, write_json
from jobs.serving import Serving
from jobs.watched_job import Job

STALL = 300.0  # seconds without a beat after which the job is given up
ABOUT = "vectors.json"
FORMULA = (
    "logit = entity.constant + candidate.constant + <entity.vector, candidate.vector> + for every pair entry of the "
    "entity whose key the candidate has in that field, with its feature x of field p: x.constant + <entity.to_pairs at "
    "p, x.to_entity> + <candidate.to_pairs at p, x.to_candidate> + for every two such features x of p and y of q: "
    "<x.to_pair at q, y.to_pair at p>. 'at p' is the p-th of as many equal pieces as there are pair fields, from 0. "
    "p = 1 / (1 + exp(-(slope * logit + intercept)))."
)


@dataclass(frozen=True)
class VectorStep:
    """The step that writes the files of one block, or those that all blocks share."""

    task: dict[str, Any]

    def __str__(self) -> str:
        return "vectors of " + ("the candidates" if self.task["block"] is None else f"block {self.task['block']}")

    def last_beat(self) -> Beat | None:
        return heartbeat.last_beat(Path(self.task["heartbeat"]), "vectors")

    def progress(self, beat: Beat) -> str:
        return f"{beat.done / 1000:.0f} s of CPU time"


def write_step(step: VectorStep) -> dict[str, int]:
    """Write the step's files; the rows by folder, and the model's k."""
    return vectors.write_step(step.task)


def make(
    cycle: Cycle, spark: SparkSession, serving: Serving, inputs: Dataset, stall_timeout: float = STALL
) -> Dataset | None:
    """The vectors of `serving` over its score_inputs `inputs`; None for a model that is no FFM, or whose calibrator is
    not slope and intercept: whoever computes p from vectors knows no other formula.

    Raises JobError if a task fails or stands still.
    """
    card = models.read_card(cycle.warehouse, serving.model_id)
    if card["algorithm"] != "ffm":
        return None
    if (method := serving.calibrator.get("method", "platt")) != "platt":
        cycle.progress.note(
            f"no vectors: the calibrator of {serving.model_id} is {method}, they need slope and intercept"
        )
        return None
    vocabulary = cycle.lake.get("vocabulary", card["lineage"]["vocabulary"]["key"])
    contents = {"score_inputs": inputs.content, "vocabulary": vocabulary.content}
    params = _identity(cycle, serving) | {"calibrator": serving.calibrator}
    found, _ = cycle.make(
        "vectors",
        __name__,
        contents,
        params,
        lambda out: _write(cycle, spark, serving, inputs, vocabulary, out, stall_timeout),
    )
    return found


def point(
    warehouse: Path, contract: str, scoring: dict[str, Any], made: Iterable[Dataset | None], keep: bool = False
) -> Path | None:
    """Point vectors/<contract> at the first of `made` that is of the scores which the row `scoring` tells of.

    If there is none, a link that is of them stays, and any other goes: a reader finds no vectors (the prior has none)
    rather than those of another model. With `keep` it stays all the same. Returns the link, or None without one.
    """
    wanted = {"model_id": scoring["model_id"], "calibrator_id": scoring["calibrator_id"]}
    wanted |= {"data_through": scoring["data_through"].isoformat()}
    link = warehouse / "vectors" / contract
    for dataset in made:
        run = dataset.root if dataset else None
        if run is not None and _is_of(run, wanted):
            durable.point(link, run)
            return link
    if not keep and not _is_of(link, wanted):
        durable.unpoint(link)
    return link if link.is_symlink() else None


def _write(
    cycle: Cycle,
    spark: SparkSession,
    serving: Serving,
    inputs: Dataset,
    vocabulary: Dataset,
    out: Path,
    stall_timeout: float,
) -> None:
    root = inputs.root
    layout = json.loads((root / "layout.json").read_text())
    model = models.model_folder(cycle.warehouse, serving.model_id).resolve()
    beats = cycle.warehouse / "heartbeats" / f"vectors-{uuid.uuid4().hex}"
    beats.mkdir(parents=True)
    common = {
        "inputs": str(root),
        "model": str(model),
        "vocabulary": [str(Path(file).resolve()) for file in vocabulary.files],
        "out": str(out.resolve()),
    }
    blocks = [None, *range(layout["blocks"])]
    steps = [
        VectorStep(common | {"block": block, "heartbeat": str(beats / str(at))}) for at, block in enumerate(blocks)
    ]
    try:
        written = Job(spark.sparkContext, "vectors", steps, write_step, stall_timeout).results()
    finally:
        shutil.rmtree(beats, ignore_errors=True)
    for left in out.rglob("*.tmp"):  # of tasks that died
        left.unlink()
    used = {"calibrator_id": calibrator_id(serving.calibrator)} | serving.calibrator
    (out / "calibrator").mkdir()
    pq.write_table(pa.Table.from_pylist([used]), out / "calibrator" / "part-00000.parquet")
    sides = {side: layout[side] for side in ("entity", "candidate", "pair")}
    sizes = {name: layout[name] for name in ("entities", "candidates", "pairs")}
    sizes |= {"k": written[0]["k"], "features": written[0]["feature_vectors"]}
    write_json(out / ABOUT, _identity(cycle, serving) | {"fields": sides, "formula": FORMULA} | sizes)


def _identity(cycle: Cycle, serving: Serving) -> dict[str, str]:
    """Which scores these vectors give again."""
    return {
        "model_id": serving.model_id,
        "calibrator_id": calibrator_id(serving.calibrator),
        "data_through": cycle.periods.data_through.replace(tzinfo=None).isoformat(),
    }


def _is_of(run: Path, wanted: dict[str, str]) -> bool:
    """Whether folder `run` holds the vectors of these scores."""
    try:
        about = json.loads((run / ABOUT).read_text())
    except (OSError, ValueError):
        return False
    return all(about.get(name) == value for name, value in wanted.items())
