"""Times the parts of a stage, as stages `<stage>: <part>` of the cycle."""

from __future__ import annotations

import contextlib
import datetime as dt
import resource
import time
from collections.abc import Generator
from typing import Any

from jobs.cycle import Cycle


class Parts:
    """`with parts.timed("dbt"): …` for each part, `parts.remember()` when the stage is over: a stage that failed has no
    parts."""

    def __init__(self, cycle: Cycle, stage: str) -> None:
        self._cycle, self._stage = cycle, stage
        self._records: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def timed(self, part: str) -> Generator[None]:
        started, clock = dt.datetime.now(dt.UTC).replace(tzinfo=None), time.perf_counter()
        yield
        self._records[f"{self._stage}: {part}"] = {
            "started_at": started.isoformat(),
            "wall_s": time.perf_counter() - clock,
            "rows": 0,
            "bytes_written": 0,
            "status": "done",
            "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }

    def remember(self) -> None:
        """Let the cycle know them."""
        self._cycle.remember({}, stages=self._records, made=self._records)
