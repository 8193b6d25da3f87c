"""A Spark job that is watched: one task per step, their heartbeats looked at, cancelled if nothing moves.

Nothing can hang: executors are counted before the start, and a job without progress is cancelled and the error names
the step that stopped.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pyspark import InheritableThread, SparkContext

from ffm_udf.heartbeat import FINISHED, Beat

POLL = 0.05  # seconds between two looks at the executors
SETTLE = 2.0  # seconds in which further executors may register once there is one
START = 60.0  # seconds that a Python process may take to start and load the kernels, however short the stall timeout
LOOKS = 10  # at the heartbeats within a stall timeout
GIVE_UP = 10.0  # seconds that a cancelled job gets to end


class JobError(RuntimeError):
    """A job cannot start or go on; the message says why. A rerun goes on with what is not finished."""


class Step(Protocol):
    """What one task does: its name is `str(step)`."""

    def last_beat(self) -> Beat | None:
        """The step's last heartbeat, None before the first."""
        ...

    def progress(self, beat: Beat) -> str:
        """What the heartbeat says, in words."""
        ...


def slots(context: SparkContext) -> int:
    """Tasks that the executors registered by now can run at the same time."""
    java: Any = context._jsc
    java = java.sc()
    return java.maxNumConcurrentTasks(java.resourceProfileManager().defaultResourceProfile())


def is_local(context: SparkContext) -> bool:
    """Whether everything runs in the driver's process: all slots are there from the beginning."""
    return str(context.master).startswith("local")


def check_slots(partitions: int, count: Callable[[], int], timeout: float, say: Callable[[str], object]) -> None:
    """Wait until `count()` slots are there for all partitions, or for SETTLE seconds once there are some.

    With too few it says that partitions run in waves. Raises JobError if there are none after `timeout` seconds.
    """
    began, first = time.monotonic(), None
    while (found := count()) < partitions:
        now = time.monotonic()
        if found and first is None:
            first = now
        if first is not None and now - first >= min(SETTLE, timeout):
            say(f"{partitions} partitions on {found} slots: they run in {-(-partitions // found)} waves")
            return
        if first is None and now - began >= timeout:
            raise JobError(
                f"no executor registered within {timeout:.0f} s, so {partitions} partitions cannot run: "
                "start workers, or look whether other applications hold all cores"
            )
        time.sleep(POLL)


def ready_slots(context: SparkContext, say: Callable[[str], object], timeout: float = 15.0) -> int:
    """The slots there are once at least one executor has registered; JobError if none does."""
    check_slots(1, lambda: slots(context), timeout, say)
    if not is_local(context):
        time.sleep(SETTLE)  # for the executors after the first one: how many there are decides the default partitions
    return slots(context)


class Job:
    """One Spark job of a step per task, run in a thread of its own so that it can be watched and cancelled."""

    def __init__(
        self,
        context: SparkContext,
        name: str,
        steps: Sequence[Step],
        work: Callable[[Any], dict[str, Any]],
        stall_timeout: float,
        finished: Callable[[int], object] = lambda place: None,
    ) -> None:
        """`work` does a step in a task; `finished` is called with the place of each step when it is done."""
        self.context, self.name, self.steps, self.work = context, name, steps, work
        self.stall_timeout, self.finished = stall_timeout, finished
        self.group = f"fieldmart-{uuid.uuid4().hex}"
        self.done = threading.Event()
        self.found: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def results(self) -> list[dict[str, Any]]:
        """What the steps return, in their order. Raises JobError if one fails or none makes progress."""
        thread = InheritableThread(target=self._run)
        thread.daemon = True
        thread.start()
        watch = Watch(self.steps, self.stall_timeout, time.monotonic(), self.finished)
        try:
            while not self.done.wait(min(1.0, self.stall_timeout / LOOKS)):
                if complaint := watch.look(time.monotonic()):
                    raise JobError(complaint)
        finally:
            if not self.done.is_set():
                self.context.cancelJobGroup(self.group)
                self.done.wait(GIVE_UP)
        if self.error is not None:
            raise JobError(f"{self.name} failed: {cause(self.error)}")
        watch.look(time.monotonic())
        return self.found

    def _run(self) -> None:
        try:
            self.context.setJobGroup(self.group, self.name, interruptOnCancel=True)
            self.found = self.context.parallelize(self.steps, len(self.steps)).map(self.work).collect()
        except Exception as error:
            self.error = error
        finally:
            self.done.set()


class Watch:
    """Looks at the heartbeats of a job's steps and tells which one has stopped."""

    def __init__(
        self,
        steps: Sequence[Step],
        timeout: float,
        now: float,
        finished: Callable[[int], object] = lambda place: None,
    ) -> None:
        self.steps, self.timeout, self.finished = steps, timeout, finished
        self.seen: list[tuple[Beat | None, float]] = [(None, now)] * len(steps)

    def look(self, now: float) -> str | None:
        """What is wrong at time `now` (seconds), or None. A step that has not begun may be waiting for a slot: it is
        blamed only when nothing else runs either."""
        for place, step in enumerate(self.steps):
            beat = step.last_beat()
            if beat != self.seen[place][0]:
                self.seen[place] = beat, now
                if beat and beat.done == FINISHED:
                    self.finished(place)
        limit = self.timeout
        running = [(since, place) for place, (beat, since) in enumerate(self.seen) if beat and beat.done != FINISHED]
        waiting = [place for place, (beat, _) in enumerate(self.seen) if beat is None]
        if running:
            since, place = min(running)
        else:  # waiting for a slot, or all are done and their results on the way
            since, place = max(since for _, since in self.seen), waiting[0] if waiting else 0
            limit = max(limit, START)
        if now - since <= limit:
            return None
        beat = self.seen[place][0]
        did = "no process has begun it"
        if beat:
            did = f"{self.steps[place].progress(beat)}, process {beat.pid} on {beat.host}"
        if beat and beat.done == FINISHED:
            did = "done, but its result has not come back"
        return f"{self.steps[place]}: no progress for {now - since:.0f} s ({did}); the job is cancelled"


def cause(error: Exception) -> str:
    """The line of a Spark error that says what happened."""
    text = str(error)
    python = re.findall(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt): .+$", text, re.MULTILINE)
    lost = re.search(r"Job aborted due to stage failure: (.+)", text)
    lines = [line for line in python if not line.startswith(("py4j.", "org.apache"))]
    return lines[-1] if lines else lost.group(1) if lost else text.partition("\n")[0]
