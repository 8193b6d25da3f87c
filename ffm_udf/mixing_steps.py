"""What a mixing run consists of: its files and its steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ffm_udf import FFM, checkpoints, heartbeat
from ffm_udf.heartbeat import Beat
from ffm_udf.layout import Layout
from ffm_udf.weights import Weights


@dataclass(frozen=True)
class Mixing:
    """One mixing run: the training task (see workers.train), its work folder, how many partitions take part, how often
    per epoch they are merged, and whether AdaGrad sums are merged by "sum" or by "average"."""

    task: dict[str, Any]
    work: Path
    partitions: int
    syncs: int
    merge: str

    @cached_property
    def model(self) -> FFM:
        return FFM(**self.task["hyperparameters"])

    @cached_property
    def layout(self) -> Layout:
        return Layout(self.model.k, len(self.task["fields"]), self.task["n_features"], self.model.sums)

    def epoch_folder(self, epoch: int) -> Path:
        return self.work / f"epoch-{epoch:04d}"

    def manifest(self, epoch: int) -> Path:
        return self.work / f"epoch-{epoch:04d}.json"

    def weights(self, epoch: int) -> Weights:
        """The merged weights after `epoch`, memory-mapped."""
        return checkpoints.load(self.epoch_folder(epoch), self.layout)

    def state(self, epoch: int, sync: int) -> Path:
        """Folder of the merged weights after `sync` merges of `epoch`; 0 is the end of the epoch before."""
        if sync == 0:
            return self.epoch_folder(epoch - 1)
        return self.epoch_folder(epoch) if sync == self.syncs else self.work / f"epoch-{epoch:04d}-sync-{sync}"


@dataclass(frozen=True)
class Step:
    """One Spark task: a stage (see mixing_tasks.STAGES) of `epoch` and `sync`, both from 1, for one partition."""

    mixing: Mixing
    stage: str
    epoch: int
    sync: int
    partition: int
    eta: float = 0.0
    told: dict[str, Any] = field(default_factory=dict)  # what the driver knows: slices to verify, the history ...

    def __str__(self) -> str:
        return f"partition {self.partition} of {self.mixing.partitions}, {self.stage} of epoch {self.epoch}"

    @property
    def result(self) -> Path:
        """Folder for the weights that come out of this partition's pass."""
        return self.mixing.work / f"pass-{self.epoch:04d}-{self.sync}-{self.partition:04d}"

    @property
    def heartbeat(self) -> Path:
        return self.mixing.work / "heartbeats" / f"{self.partition:04d}"

    def beat(self, rows: int) -> None:
        """Say that so many rows are done; see heartbeat.py."""
        heartbeat.beat(self.heartbeat, self._whose, rows)

    def last_beat(self) -> Beat | None:
        """What the process that does this step said last, or None if it has not begun."""
        return heartbeat.last_beat(self.heartbeat, self._whose)

    def progress(self, beat: Beat) -> str:
        return f"{beat.done:,} rows done"

    @property
    def _whose(self) -> str:
        return f"{self.stage} {self.epoch} {self.sync}"

    def bounds(self, size: int) -> tuple[int, int]:
        """This partition's share of 0..size, as begin and end; shares differ by at most one."""
        partitions = self.mixing.partitions
        return size * self.partition // partitions, size * (self.partition + 1) // partitions
