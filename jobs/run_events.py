"""What a machine reads of a night: one JSON line per event of each stage, and the same as OpenLineage events.

    <warehouse>/log/runs/<run_id>.jsonl           stage start, done, reused, failed; `jq .run_id`
    <warehouse>/log/openlineage/<run_id>.jsonl    START, COMPLETE, FAIL with the data sets read and written

Steps of one night carry one run_id, whatever process runs them: FIELDMART_RUN_ID if a scheduler sets it, else the id
that the cycle remembers, which its first stage renews. Nothing is sent anywhere. A log that cannot be written is told
once and does not stop the night: it proves nothing, the decision log does.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # which hands itself over
    from jobs.lake import Dataset

FIRST = ("start", "ingest")  # stages with which a night begins
KEPT = 400  # files of each kind: a year of nights
LONGEST = 500  # characters of an error's message


class RunEvents:
    """The events of one cycle in this process; `tell` says something to the person who watches."""

    def __init__(self, warehouse: Path, contract: str, date: dt.date, tell: Callable[[str], None]) -> None:
        self.folder = warehouse / "log"
        self.contract, self.date, self.tell = contract, date, tell
        self.run_id = ""
        self._broken = False

    def begin(self, stage: str, remembered: str | None) -> None:
        """Settle the run's id when a stage begins: the scheduler's, this process's, the night's, or a new one."""
        if self.run_id:
            return
        given = re.sub(r"[^A-Za-z0-9._-]", "_", os.environ.get("FIELDMART_RUN_ID", ""))
        known = "" if stage in FIRST else remembered
        self.run_id = given or known or f"{self.contract}-{self.date}-{_now():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        for kind in ("runs", "openlineage"):
            self._attempt(lambda kind=kind: prune(self.folder / kind, KEPT))

    def write(self, stage: str, event: str, **about: Any) -> None:
        """Append one line; `about` holds rows, bytes, seconds, error and message where there are any."""
        line: dict[str, Any] = {"at": _now().isoformat(), "run_id": self.run_id, "contract": self.contract}
        line |= {"cycle_date": str(self.date), "stage": stage, "event": event, "pid": os.getpid()} | about
        self._attempt(lambda: append(self.folder / "runs" / f"{self.run_id}.jsonl", line))

    def lineage(
        self,
        stage: str,
        kind: str,
        key: str,
        inputs: Mapping[str, Dataset],
        outputs: Mapping[str, Dataset],
        message: str | None = None,
    ) -> None:
        """Append an OpenLineage event: `kind` is START, COMPLETE or FAIL, `key` is the same for all of one stage."""

        def emit() -> None:
            # It takes 0.3 to 0.5 s to load, which only a command that runs a stage pays.
            from jobs import openlineage_events

            made = openlineage_events.event(
                kind, (self.run_id, self.contract), (stage, key), inputs, outputs, message, _now()
            )
            path = self.folder / "openlineage" / f"{self.run_id}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            openlineage_events.emit(path, made)

        self._attempt(emit)

    def _attempt(self, work: Callable[[], object]) -> None:
        if self._broken:
            return
        try:
            work()
        except (OSError, RuntimeError, ValueError) as error:
            self._broken = True
            self.tell(f"the log of this run cannot be written, the night goes on: {first_line(error)}")


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Append one JSON line in one write, so that lines of two processes do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (json.dumps(line, sort_keys=True, default=str) + "\n").encode())
    finally:
        os.close(descriptor)


def prune(folder: Path, kept: int) -> None:
    """Delete the oldest files of `folder` but `kept`."""
    if folder.is_dir():
        oldest_first = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        for path in oldest_first[: max(len(oldest_first) - kept, 0)]:
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                path.unlink()


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:LONGEST]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
