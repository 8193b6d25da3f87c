"""One FFM over several partitions: iterative parameter mixing of AdaGrad.

Juan, Lefortier, Chapelle, "Field-aware Factorization Machines in a Real-world Online Advertising System" (WWW 2017
Companion), Algorithm 2. Every epoch each partition makes an AdaGrad pass over its rows from the shared weights; then
the weights are averaged, and the AdaGrad sums become the start's plus what every partition added, as if one pass had
seen all rows. The merged weights on storage are the checkpoint from which a rerun goes on.

No Spark here: `execute` does a list of steps (mixing_tasks.py), on a cluster (jobs/mixing.py) or one after the other.
With one partition and one merge per epoch this is FFM.fit, bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ffm_udf import checkpoints, kernels
from ffm_udf.mixing_steps import Mixing, Step
from ffm_udf.mixing_tasks import run_step

MERGES = ("sum", "average")
SUMMED = ("rows", "wall_s", "cpu_s", "jit_s", "bytes_read")

type Execute = Callable[[list[Step]], list[dict[str, Any]]]
type Say = Callable[[str], object]


def step_size(eta: float, partitions: int) -> float:
    """AdaGrad step size of each partition: eta * partitions, however often and in whichever way they are merged.

    A mean of weights moves as far as one partition did over its share of the rows, while summed AdaGrad sums grow as
    with all rows: only steps larger by the number of partitions bring an epoch as far as on one partition.
    """
    return eta * partitions


def best_epoch(history: Sequence[dict[str, Any]], patience: int | None) -> int:
    """The epoch whose weights are kept, by the rule of FFM.fit: the best on validation, or the last without it."""
    best, best_loss = 0, math.inf
    for entry in history:
        loss = entry["valid_logloss"]
        if patience is None or loss is None or loss < best_loss:
            best, best_loss = entry["epoch"], loss
    return best


def is_finished(history: Sequence[dict[str, Any]], epochs: int, patience: int | None) -> bool:
    if len(history) >= epochs:
        return True
    stopping = bool(history) and patience is not None and history[-1]["valid_logloss"] is not None
    return stopping and len(history) - best_epoch(history, patience) >= (patience or 0)


def serially(steps: list[Step]) -> list[dict[str, Any]]:
    """The steps one after the other in this process."""
    return [run_step(step) for step in steps]


def train(
    task: dict[str, Any],
    work: Path,
    partitions: int,
    syncs: int = 1,
    merge: str = "sum",
    execute: Execute = serially,
    say: Say = print,
) -> dict[str, Any]:
    """Train `task` (see workers.train; algorithm "ffm") by mixing; returns the card of the model folder it writes.

    work: folder of this run alone; what is in it lets a rerun go on after the last finished epoch. It is removed when
    the model is written. Raises ValueError for bad arguments or rows and FloatingPointError if training diverges.
    """
    mixing = Mixing(task, Path(work), partitions, syncs, merge)
    run = Run(mixing, execute, say)
    card = run.prepare()
    if card is None:
        run.train()
        card = run.finish()
    shutil.rmtree(work, ignore_errors=True)  # an attempt that outlives the run may still write a heartbeat
    return card


def simulate(task: dict[str, Any], work: Path, partitions: int, syncs: int = 1, merge: str = "sum") -> list[dict]:
    """The curve of a mixing run of `task` in this process, without a model at the end: what `make bench` compares."""
    run = Run(Mixing(task, Path(work), partitions, syncs, merge), serially, lambda text: None)
    run.prepare()
    run.train()
    shutil.rmtree(work, ignore_errors=True)
    return run.history


class Run:
    """A mixing run as the driver sees it: the curve, the costs and which files count. Nothing here is large."""

    def __init__(self, mixing: Mixing, execute: Execute, say: Say) -> None:
        for name in ("partitions", "syncs"):
            if getattr(mixing, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(mixing, name)}")
        if mixing.merge not in MERGES:
            raise ValueError(f"merge must be one of {', '.join(MERGES)}, got {mixing.merge!r}")
        if mixing.task["algorithm"] != "ffm":
            raise ValueError(f"only the algorithm ffm can be mixed, got {mixing.task['algorithm']!r}")
        self.mixing, self.execute, self.say = mixing, execute, say
        self.eta = step_size(mixing.model.eta, mixing.partitions)
        self.history: list[dict[str, Any]] = []
        self.slices: dict[str, list[dict[str, Any]]] = {}  # of every kept epoch
        self.costs: dict[tuple[str, int], dict[str, Any]] = {}

    def prepare(self) -> dict[str, Any] | None:
        """Warm up the workers, check the rows, write the first weights and find the last checkpoint; or return the card
        of the model if it is finished."""
        self.began = time.time()
        (self.mixing.work / "heartbeats").mkdir(parents=True, exist_ok=True)
        for path in (self.mixing.work / "heartbeats").iterdir():
            path.unlink()  # of a run before this one
        first = self._steps("prepare", 0, 1)[0]
        if "card" in first:
            return first["card"]
        self.slices["0"], self.rows, self.limit = first["slices"], first["rows"], first["limit"]
        self._resume()
        return None

    def train(self) -> None:
        """Run epochs from the last checkpoint until the model is good enough or the epochs are used up."""
        model = self.mixing.model
        while not is_finished(self.history, model.epochs, model.patience):
            epoch = len(self.history) + 1
            self._epoch(epoch)
            self._check(self.history[-1])
            self._remember()
            self._tidy()

    def finish(self) -> dict[str, Any]:
        """Let a task write the model folder; returns the card."""
        costs, best = list(self.costs.values()), best_epoch(self.history, self.mixing.model.patience)
        told = {"history": self.history, "best_epoch": best, "costs": costs, "began": self.began}
        told["jit_s"] = max(cost["jit_s"] for cost in costs)
        step = Step(self.mixing, "finish", len(self.history), 1, 0, told=told)
        return self.execute([step])[0]["card"]

    def _epoch(self, epoch: int) -> None:
        loss = mass = seconds = 0.0
        for sync in range(1, self.mixing.syncs + 1):
            passes = self._steps("pass", epoch, sync)
            checkpoints.allocate(self.mixing.state(epoch, sync), self.mixing.layout)
            shards = self._steps("merge", epoch, sync)
            for found in passes:
                loss, mass = loss + found["loss"], mass + found["mass"]
            seconds += max(found["seconds"] for found in passes)
            self._tidy(self.mixing.state(epoch, sync).name)
        self.slices[str(epoch)] = [part for found in shards for part in found["slices"]]
        valid_loss = None
        if self.mixing.task["valid"]:
            scored = self._steps("validation", epoch, 1)
            valid_loss = sum(found["loss"] for found in scored) / sum(found["rows"] for found in scored)
        entry = {"epoch": epoch, "train_logloss": loss / mass, "valid_logloss": valid_loss, "seconds": seconds}
        self.history.append(entry | {"rows_per_s": self.rows / seconds})
        told = "" if valid_loss is None else f", valid logloss {valid_loss:.6f}"
        self.say(f"epoch {epoch}: train logloss {loss / mass:.6f}{told}, {self.rows / seconds:,.0f} rows/s")

    def _steps(self, stage: str, epoch: int, sync: int, told: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """One step of `stage` per partition; their costs are added to those before."""
        step = Step(self.mixing, stage, epoch, sync, 0, self.eta, told or {})
        found = self.execute([replace(step, partition=p) for p in range(self.mixing.partitions)])
        for cost in (one["cost"] for one in found):
            before = self.costs.setdefault((cost["stage"], cost["partition"]), cost)
            if before is not cost:
                before |= {name: before[name] + cost[name] for name in SUMMED}
                before["peak_rss_mib"] = max(before["peak_rss_mib"], cost["peak_rss_mib"])
        return found

    def _check(self, entry: dict[str, Any]) -> None:
        train_loss, valid_loss = entry["train_logloss"], entry["valid_logloss"]
        if not (train_loss < self.limit and (valid_loss is None or valid_loss < self.limit)):
            raise FloatingPointError(
                f"training diverged in epoch {entry['epoch']}: train logloss {train_loss:.4g}, validation {valid_loss},"
                f" with eta={self.eta:.4g} on {self.mixing.partitions} partitions; use a smaller eta"
            )

    def _kept_epochs(self) -> set[int]:
        """Epochs whose weights are needed: the last, the best, and the one before the best on request."""
        best = best_epoch(self.history, self.mixing.model.patience)
        return {len(self.history), best} | ({max(best - 1, 0)} if self.mixing.model.keep_before_best else set())

    def _remember(self) -> None:
        """Make the last epoch count."""
        kept = self._kept_epochs()
        self.slices = {epoch: parts for epoch, parts in self.slices.items() if int(epoch) in kept}
        content = {"fingerprint": self._fingerprint(), "history": self.history, "slices": self.slices}
        content["costs"] = list(self.costs.values())
        checkpoints.write_manifest(self.mixing.manifest(len(self.history)), content)

    def _tidy(self, *names: str) -> None:
        """Remove what no later step reads; `names` are kept beside the epochs that count."""
        kept = {self.mixing.epoch_folder(epoch).name for epoch in self._kept_epochs()} | set(names)
        for path in self.mixing.work.iterdir():
            if path.is_dir() and re.fullmatch(r"(epoch|pass)-.*", path.name) and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix == ".json" and path.stem not in kept:
                path.unlink(missing_ok=True)

    def _resume(self) -> None:
        """Take over the newest checkpoint of the same run whose files are intact."""
        for path in sorted(self.mixing.work.glob("epoch-*.json"), reverse=True):
            found = checkpoints.read_manifest(path)
            if found is None or found["fingerprint"] != self._fingerprint():
                continue
            told = {"slices": [part for parts in found["slices"].values() for part in parts]}
            if all(one["intact"] for one in self._steps("verify", len(found["history"]), 1, told)):
                self.history, self.slices = found["history"], found["slices"]
                self.costs = {(cost["stage"], cost["partition"]): cost for cost in found["costs"]}
                self.say(f"resumed after epoch {len(self.history)}")
                break
        self._tidy()

    def _fingerprint(self) -> str:
        """Of everything that the weights depend on."""
        mixing, outside = self.mixing, ("folder", "calib", "calibrator", "level", "lineage", "role", "strategy")
        task = {name: value for name, value in mixing.task.items() if name not in outside}
        parts = [task, mixing.partitions, mixing.syncs, mixing.merge, self.eta, kernels.source_key()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
