"""What a piece of work cost, measured in the process that did it."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Generator
from dataclasses import dataclass


@dataclass
class Cost:
    """Wall and CPU seconds and the peak of resident memory in MiB, mapped files included."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_mib: float = 0.0


@contextlib.contextmanager
def measured() -> Generator[Cost]:
    """Fill the yielded Cost when the block ends. The peak is that of the block where the kernel can reset it."""
    cost = Cost()
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    wall, cpu = time.perf_counter(), time.process_time()
    yield cost
    cost.wall_s, cost.cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    cost.peak_rss_mib = _peak_rss_mib()


def _peak_rss_mib() -> float:
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1024 if os.uname().sysname == "Linux" else 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
