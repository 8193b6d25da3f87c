"""The sweep on Spark: one watched task per model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark import SparkContext

from ffm_udf import card as cards
from ffm_udf import heartbeat, workers
from ffm_udf.heartbeat import Beat
from jobs.watched_job import Job


@dataclass(frozen=True)
class Training:
    """The step that trains one model."""

    task: dict[str, Any]

    def __str__(self) -> str:
        return f"training of {self.task['model_id']}"

    @property
    def heartbeat(self) -> Path:
        folder = Path(self.task["folder"])
        return folder.parent.parent / "heartbeats" / folder.name

    def last_beat(self) -> Beat | None:
        return heartbeat.last_beat(self.heartbeat, "training")

    def progress(self, beat: Beat) -> str:
        return f"{beat.done / 1000:,.0f} s of CPU time used"


def train_step(step: Training) -> dict[str, Any]:
    """Train the step's model; its card."""
    with heartbeat.beating(step.heartbeat, "training"):
        return workers.train(step.task)


def train(
    context: SparkContext, tasks: Sequence[dict[str, Any]], stall_timeout: float, say: Callable[[str], object]
) -> list[dict[str, Any]]:
    """The cards of the tasks, in their order; each is told as it is finished. Raises JobError if a task fails or stands
    still for `stall_timeout` seconds."""
    steps = [Training(task) for task in tasks]
    for step in steps:
        step.heartbeat.unlink(missing_ok=True)  # of an earlier run

    def finished(place: int) -> None:
        cost = cards.read(tasks[place]["folder"])["cost"]
        best = f"best epoch {cost['best_epoch']} of {cost['epochs']}, " if cost["epochs"] else ""
        say(
            f"{tasks[place]['model_id']}: {best}{cost['rows_per_s']:,.0f} rows/s, {cost['cpu_s']:.1f} CPU-s, "
            f"compile {cost['jit_s']:.1f} s"
        )

    if not steps:
        return []
    found = Job(context, "training", steps, train_step, stall_timeout, finished).results()
    for step in steps:
        step.heartbeat.unlink(missing_ok=True)
    return found
