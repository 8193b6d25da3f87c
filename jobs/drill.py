"""`fieldmart drill`: is the backup worth anything? Back up, restore where nothing else is, compare every row.

The restored warehouse stands in a scratch folder of its own and nothing in it points out of it, so what is read there
came through the backup. The recovery time runs from the start of the restore until the restored mart has answered a
query; the recovery point is the time between the instant that the backup holds all of and the start of the restore.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from jobs import durable, operations_log, releases
from jobs.backup import Made, backup
from jobs.operations_log import Event
from jobs.releases import MART, Release
from jobs.restore import Restored, restore
from jobs.verification import verify_warehouse

COMPARED = 5  # earlier drills, whose median the time is held against
REGRESSION = 0.2  # share by which a recovery may be slower before it alarms
FLOOR_S = 1.0  # seconds below which it never does: so short a time is mostly noise

Say = Callable[[str], None]


class DrillError(RuntimeError):
    """A drill that cannot be held; the message says why."""


@dataclass(frozen=True)
class Drill:
    """What a drill found. `different`: marts (release/mart) whose rows are not those of the original; `faults`: what
    the restored warehouse fails verification in, or points out of it with."""

    made: Made
    restored: Restored
    marts: int
    different: list[str]
    faults: list[str]
    rto_s: float
    rpo_s: float
    slower_by: float | None  # relative to the median of earlier drills; None without any

    @property
    def hash_equal(self) -> bool:
        return self.marts > 0 and not self.different

    @property
    def passed(self) -> bool:
        return self.hash_equal and not self.faults

    @property
    def is_regression(self) -> bool:
        return self.slower_by is not None and self.slower_by > REGRESSION


def drill(warehouse: Path, target: str | None = None, say: Say = lambda _: None) -> Drill:
    """Hold a drill over `target`, by default a temporary one; written to the operations log whatever comes of it."""
    warehouse = warehouse.resolve()
    if releases.current(warehouse) is None:
        raise DrillError(f"{warehouse} has no release to compare: run the nightly first")
    with _scratch(warehouse) as place:
        try:
            found = _held(warehouse, target, place, say)
        except Exception as error:
            with contextlib.suppress(OSError):  # the disk may be what is wrong
                operations_log.append(warehouse, "drill", ok=False, detail=str(error).replace(str(place), ""))
            raise
    said = f"hash_equal={str(found.hash_equal).lower()} marts={found.marts} backup_s={found.made.seconds:.3f}"
    problems = [*found.different, *found.faults]
    said += "".join(f"; {problem}" for problem in problems[:5])
    size = found.restored.bytes
    operations_log.append(
        warehouse, "drill", ok=found.passed, seconds=found.rto_s, bytes=size, rpo_s=found.rpo_s, detail=said
    )
    return found


def _held(warehouse: Path, target: str | None, place: Path, say: Say) -> Drill:
    say("backing up")
    made = backup(warehouse, target or place / "backup", is_logged=target is not None, say=say)
    say("restoring")
    begun, started = dt.datetime.now(dt.UTC), time.perf_counter()
    restored = restore(target or place / "backup", place / "restored", backup_id=made.backup_id, lost_at=begun)
    faults = [*made.faults, *_no_answer(place / "restored")]
    rto_s = time.perf_counter() - started
    say("comparing")
    after, of_after = _read(place / "restored")
    # A night may have published or removed a release since: what both have must be equal.
    before, of_before = _read(warehouse)
    both = {name.partition("/")[0] for name in before} & {name.partition("/")[0] for name in after}
    names = {name for name in {*before, *after} if name.partition("/")[0] in both}
    faults += [*of_before, *of_after, *verify_warehouse(place / "restored").faults, *_links_out_of(place / "restored")]
    return Drill(
        made=made,
        restored=restored,
        marts=len(names),
        different=sorted(name for name in names if before.get(name) != after.get(name)),
        faults=list(dict.fromkeys(fault.replace(str(place), "") for fault in faults)),
        rto_s=rto_s,
        rpo_s=restored.rpo_s,
        slower_by=slower_by(rto_s, operations_log.entries(warehouse)),
    )


@contextlib.contextmanager
def _scratch(warehouse: Path) -> Generator[Path]:
    """A folder beside the warehouse, on its disk; what killed drills of this warehouse left there goes."""
    prefix = f".{warehouse.name}.drill-"
    try:
        with durable.held(warehouse / ".drill.lock", note=f"process {os.getpid()}"):
            for left in warehouse.parent.iterdir():
                if left.name.startswith(prefix):
                    shutil.rmtree(left)
            with tempfile.TemporaryDirectory(prefix=prefix, dir=warehouse.parent) as folder:
                yield Path(folder).resolve()
    except durable.BusyError as error:
        raise DrillError(f"another drill of {warehouse} is held ({error}): wait for it") from None


def _no_answer(warehouse: Path) -> list[str]:
    """Why readers of the restored warehouse are not served, if they are not."""
    try:
        answer(warehouse)
    except (DrillError, releases.ReleaseError, duckdb.Error) as error:
        return [f"the restored mart does not answer: {_first_line(error)}"]
    return []


def _read(warehouse: Path) -> tuple[dict[str, str], list[str]]:
    """What `hashes` returns, of the releases that can be read, and a line for each that cannot."""
    found, faults = {}, []
    for release in releases.list_releases(warehouse):
        try:
            found |= {f"{release.release_id}/{name}": value for name, value in of_release(release).items()}
        except duckdb.Error as error:
            if release.folder.exists():  # else a night removed it meanwhile
                faults.append(f"release {release.release_id}: {MART} cannot be read: {_first_line(error)}")
    return found, faults


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def answer(warehouse: Path) -> str:
    """The id that the current mart itself says; the proof that readers are served."""
    current = releases.current(warehouse)
    if current is None:
        raise DrillError(f"{warehouse} has no current release")
    with duckdb.connect(str(current.folder / MART), read_only=True) as connection:
        [(release_id,)] = connection.execute("select release_id from dim_release").fetchall()
    return release_id


def hashes(warehouse: Path) -> dict[str, str]:
    """<release>/<mart> -> count, sum and xor of the hashes of its rows, of every release; order does not count.

    DrillError if a mart cannot be read.
    """
    found, faults = _read(warehouse)
    if faults:
        raise DrillError("; ".join(faults))
    return found


def of_release(release: Release) -> dict[str, str]:
    with duckdb.connect(str(release.folder / MART), read_only=True) as connection:
        names = connection.execute(
            "select table_name from duckdb_tables() where schema_name = 'main' order by all"
        ).fetchall()
        found = {}
        for (name,) in names:
            row = connection.execute(
                f'select count(*), sum(hash(t)::hugeint), bit_xor(hash(t)) from main."{name}" as t'
            ).fetchone()
            found[name] = " ".join(map(str, row or ()))
        return found


def slower_by(rto_s: float, events: list[Event]) -> float | None:
    """How much longer it took than the median of the last drills that passed, as a share; None without any."""
    earlier = [event.seconds for event in events if event.kind == "drill" and event.ok and event.seconds is not None]
    if not earlier:
        return None
    median = statistics.median(earlier[-COMPARED:])
    return 0.0 if rto_s - median < FLOOR_S else rto_s / median - 1


def _links_out_of(warehouse: Path) -> list[str]:
    """Links of the restored warehouse that lead elsewhere: what is read through them was not restored."""
    root = warehouse.resolve()
    links = [Path(folder) / name for folder, folders, files in os.walk(root) for name in (*folders, *files)]
    return [
        f"{link.relative_to(root)} leads out of the warehouse"
        for link in links
        if link.is_symlink() and not link.resolve().is_relative_to(root)
    ]
