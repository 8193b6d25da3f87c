"""Parameter mixing on Spark: one model over many partitions, one Spark task per step (ffm_udf/mixing.py).

The driver sees only numbers: partitions, shards and the final model are files that tasks read and write below a folder
that every host shares. Nothing can hang: jobs are watched (jobs/watched_job.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from ffm_udf import mixing
from ffm_udf.mixing_steps import Step
from ffm_udf.mixing_tasks import run_step
from jobs.watched_job import Job, JobError, check_slots, is_local, slots


def train(
    spark: SparkSession,
    task: dict[str, Any],
    work: Path,
    partitions: int,
    syncs: int = 1,
    stall_timeout: float = 300.0,
    slot_timeout: float = 15.0,
    say: Callable[[str], object] = print,
    merge: str = "sum",
) -> dict[str, Any]:
    """Train `task` over `partitions` Spark tasks; returns the card of the model, as workers.train does.

    work: folder of this run alone on storage that all executors share. syncs: merges per epoch. stall_timeout: seconds
    without progress after which a job is given up. slot_timeout: seconds to wait for the first executor.

    Raises JobError if there is no executor, a task fails, a job makes no progress, training diverges or an argument is
    bad.
    """
    context = spark.sparkContext
    check_slots(partitions, lambda: slots(context), 0.0 if is_local(context) else slot_timeout, say)

    def execute(steps: list[Step]) -> list[dict[str, Any]]:
        name = f"{steps[0].stage} of epoch {steps[0].epoch}"
        return Job(context, name, steps, run_step, stall_timeout).results()

    try:
        return mixing.train(task, work, partitions, syncs, merge, execute, say)
    except (FloatingPointError, ValueError) as error:
        raise JobError(f"{task['model_id']}: {error}") from error
