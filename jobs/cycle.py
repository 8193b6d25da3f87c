"""A cycle: one contract run for one DATE. It remembers which version of each data set the cycle stands on.

    cycles/<contract>/<date>.json     {"datasets": {name: key}, "stages": {name: record}, "made": {name: record},
                                       "run": {...}, "begun_at": when its first stage began, in whatever run}

`stages` says how each stage ran last, `made` how it ran when it last did the work instead of reusing it.

Every step finds its inputs here, so a step can be run alone, twice or after a crash.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import durable
from jobs.contract import Contract
from jobs.lake import Dataset, Lake, LakeError, sha256_json, write_json
from jobs.periods import Periods
from jobs.progress import Progress
from jobs.run_events import RunEvents, first_line

MAKER = {
    "exposures": "ingest",
    "source_files": "ingest",
    "purchases": "ingest",
    "members": "ingest",
    "entity_list": "ingest",
    "offer_list": "ingest",
    "label_rates": "encode",
    "vocabulary": "encode",
    "examples": "encode",
    "rows": "encode",
    "models": "train",
    "training_cost": "train",
    "lever_gain": "levers",
    "staleness_cost": "staleness",
    "label_delay": "label",
    "label_settling": "label",
    "delayed_feedback": "delayed-feedback",
    "calibrators": "evaluate",
    "predictions": "evaluate",
    "k_comparison": "evaluate",
    "score_inputs": "score",
    "entities": "score",
    "candidates": "score",
    "scores": "score",
    "scoring": "score",
    "vectors": "score",
}


@dataclass
class Cycle:
    """What a step needs to know: the contract, the date, where the data lies and whom to tell."""

    contract: Contract
    date: dt.date
    warehouse: Path
    progress: Progress

    def __post_init__(self) -> None:
        # Executors have working directories of their own.
        self.warehouse = self.warehouse.resolve()
        self.lake = Lake(self.warehouse)
        self.periods = Periods(self.contract, self.date)
        self._path = self.warehouse / "cycles" / self.contract.name / f"{self.date}.json"
        self.events = RunEvents(self.warehouse, self.contract.name, self.date, lambda text: self.progress.note(text))
        self._stages: list[Stage] = []  # that are under way, the innermost last

    def state(self) -> dict[str, Any]:
        if self._path.exists():
            try:
                found = json.loads(self._path.read_bytes())
            except ValueError:
                found = None
            if not isinstance(found, dict) or "datasets" not in found:
                raise LakeError(f"{self._path} is damaged: bring it back from a backup")
            return found
        return {"datasets": {}, "stages": {}, "run": {}}

    def dataset(self, name: str) -> Dataset:
        """The version of data set `name` this cycle stands on; LakeError says which step to run first."""
        key = self.state()["datasets"].get(name)
        found = self.lake.find(name, key) if key else None
        if found is None:
            step = MAKER.get(name, name)
            raise LakeError(f"no {name} for {self.contract.name} {self.date}: run `fieldmart {step}` first")
        if self._stages:
            self._stages[-1].inputs[name] = found
        return found

    def has(self, name: str) -> bool:
        key = self.state()["datasets"].get(name)
        return bool(key and self.lake.find(name, key))

    def make(
        self, name: str, module: str, inputs: dict[str, str], params: Any, write: Callable[[Path], object]
    ) -> tuple[Dataset, bool]:
        """Data set `name`, found by its key or made by `write(folder)`; also whether it was found."""
        dataset, found = self.prepare(name, module, inputs, params, write)
        self.remember({name: dataset.key})
        return dataset, found

    def prepare(
        self, name: str, module: str, inputs: dict[str, str], params: Any, write: Callable[[Path], object]
    ) -> tuple[Dataset, bool]:
        """The same, but the cycle does not stand on it yet: for data sets that must be remembered together."""
        key = self.lake.key(name, module, inputs, params)
        found = self.lake.find(name, key)
        if found is None:
            with self.lake.writing(name, key, inputs, params) as folder:
                write(folder)
        return self.lake.get(name, key), found is not None

    def write_facts(self, module: str, facts: dict[str, list[dict[str, Any]]]) -> None:
        """Facts that follow from what is known by now, not from data sets: named by their rows."""
        keys = {}
        for name, rows in facts.items():
            keys[name] = self.lake.key(name, module, {"rows": sha256_json(rows)}, None)
            if self.lake.find(name, keys[name]) is None:
                self.lake.write_fact(name, keys[name], rows)
        self.remember(keys)

    def remember(self, datasets: dict[str, str], **more: Any) -> None:
        with durable.locked(
            self._path.with_name(f".{self._path.name}.lock")
        ):  # a step of another process may write too
            state = self.state()
            state["datasets"] |= datasets
            for name, value in more.items():
                state[name] = state.get(name, {}) | value
            write_json(self._path, state)
        if self._stages:
            self._stages[-1].outputs |= datasets

    def begin(self, at: dt.datetime) -> None:
        """Remember that the cycle began `at` (naive UTC), if it had not: its first run keeps or breaks a promise."""
        if "begun_at" not in self.state():
            with durable.locked(self._path.with_name(f".{self._path.name}.lock")):
                state = self.state()
                # stages of a cycle from before this was remembered
                known = [record["started_at"] for record in state["stages"].values() if "started_at" in record]
                write_json(self._path, {"begun_at": min([*known, at.isoformat()])} | state)

    def stage(self, name: str) -> Stage:
        return Stage(self, name)


class Stage:
    """Times one stage and shows it: `with cycle.stage("encode") as stage: …; stage.rows = n`."""

    def __init__(self, cycle: Cycle, name: str) -> None:
        self.cycle, self.name = cycle, name
        self.rows = 0
        self.bytes = 0
        self.reused = False
        self.inputs: dict[str, Dataset] = {}  # data sets that the stage asked for
        self.outputs: dict[str, str] = {}  # and those that the cycle stands on since: name and key

    def __enter__(self) -> Stage:
        self.started = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        self.cycle.begin(self.started)
        self._clock = time.perf_counter()
        self.cycle.progress.start(self.name)
        events = self.cycle.events
        events.begin(self.name, self.cycle.state()["run"].get("run_id"))
        events.write(self.name, "start")
        events.lineage(self.name, "START", self._key, {}, {})
        self.cycle._stages.append(self)
        return self

    @property
    def _key(self) -> str:
        """What tells this run of the stage from every other one."""
        return f"{self.started.isoformat()} {os.getpid()}"

    def made(self, dataset: Dataset, reused: bool) -> None:
        self.rows, self.bytes, self.reused = dataset.rows, dataset.bytes, reused

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        seconds = time.perf_counter() - self._clock
        self.cycle._stages.remove(self)
        self.cycle.progress.finish(self.name, self.rows, seconds, self.reused, failed=kind is not None)
        if kind is None:
            record = {
                "started_at": self.started.isoformat(),
                "wall_s": seconds,
                "rows": self.rows,
                "bytes_written": self.bytes,
                "status": "reused" if self.reused else "done",
                # of the driver's process; the workers' own peaks are in the cost facts
                "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
            made = {} if self.reused else {self.name: record}
            run = {"run_id": self.cycle.events.run_id}
            self.cycle.remember({}, stages={self.name: record}, made=made, run=run)
        self._log(seconds, error)

    def _log(self, seconds: float, error: BaseException | None) -> None:
        """What machines read of the end of this stage."""
        events, about = self.cycle.events, {"seconds": round(seconds, 3), "rows": self.rows, "bytes": self.bytes}
        if error is None:
            made = {name: self.cycle.lake.find(name, key) for name, key in self.outputs.items()}
            read = {name: dataset for name, dataset in self.inputs.items() if name not in made}
            events.write(self.name, "reused" if self.reused else "done", **about)
            events.lineage(self.name, "COMPLETE", self._key, read, {n: d for n, d in made.items() if d is not None})
        else:
            told = {"error": type(error).__name__, "message": first_line(error)}
            events.write(self.name, "failed", **about | told)
            events.lineage(self.name, "FAIL", self._key, self.inputs, {}, f"{told['error']}: {told['message']}")
