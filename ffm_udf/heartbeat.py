"""Heartbeats: a small file in which a task says how far it is, for whoever watches the job.

The file lies on storage that the driver sees. A beat is one line: what is done (a number that grows, or FINISHED), the
process and its host, after words that say whose beat it is.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

FINISHED = -1  # beat of a task that is done
EVERY = 1.0  # seconds between two beats of `beating`


@dataclass(frozen=True)
class Beat:
    """How much is done, or FINISHED, and by which process on which host."""

    done: int
    pid: int
    host: str


def beat(path: Path, whose: str, done: int) -> None:
    """Say that so much is done. The folder must exist: an attempt that outlives its run ends here."""
    written = path.with_name(f".{path.name}.{os.getpid()}")  # renamed: whoever looks meanwhile sees the beat before
    written.write_text(f"{whose} {done} {os.getpid()} {socket.gethostname()}")
    written.replace(path)


def last_beat(path: Path, whose: str) -> Beat | None:
    """The last beat in the file, None if there is none or it is not of `whose`."""
    try:
        words, done, pid, host = path.read_text().rsplit(" ", 3)
    except (OSError, ValueError):  # none yet
        return None
    return Beat(int(done), int(pid), host) if words == whose else None


@contextlib.contextmanager
def beating(path: Path, whose: str) -> Generator[None]:
    """Beat every second with the milliseconds of CPU time that the calling thread has used: they grow while it works,
    and stand still when it is stopped or waits for a lock or for storage that does not answer. (The process's own time
    would grow with every beat.) The last beat is FINISHED."""
    clock = time.pthread_getcpuclockid(threading.get_ident()) if hasattr(time, "pthread_getcpuclockid") else None
    # Where threads have no clock (macOS) the process's has to do: a training that waits is then not noticed.
    used = time.process_time if clock is None else lambda: time.clock_gettime(clock)
    stop, began = threading.Event(), used()

    def run() -> None:
        while not stop.wait(EVERY):
            with contextlib.suppress(OSError):  # a full disk must not end the beats
                beat(path, whose, int(1000 * (used() - began)))

    path.parent.mkdir(parents=True, exist_ok=True)
    beat(path, whose, 0)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    beat(path, whose, FINISHED)
