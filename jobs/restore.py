"""A warehouse brought back from a backup: `fieldmart restore SOURCE`.

    .<name>.restoring-<backup>/    beside the warehouse; filled, checked, flushed, then renamed to it

A file is written aside and renamed once its hash is right, so whatever a killed restore left in the folder is good: the
next one of the same backup goes on with what is missing, one of another backup removes it. The warehouse appears in one
rename, or, if there is one already and it may go, in two.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from jobs import champions, decision_log, durable, night_lock, operations_log, releases, served_links
from jobs.backup_store import Store
from jobs.lake import sha256_file

RECEIVERS = 8
# What becomes of the part of the lake that a backup did not take.
_REST = {"facts": "nights make the rest again", "manifests": "not all of it can be made again"}

Say = Callable[[str], None]


class RestoreError(RuntimeError):
    """A restore that must not or cannot go on; the message says what to do."""


@dataclass(frozen=True)
class Restored:
    """What a restore did. `rto_s`: seconds until the warehouse was in place. `rpo_s`: seconds between the instant that
    the backup holds all of and the loss: what was committed in them is gone. `notes`: what is not as it was."""

    backup_id: str
    files: int
    bytes: int
    reused_files: int
    rto_s: float
    rpo_s: float
    release_id: str | None
    replaced: Path | None
    notes: list[str]


def restore(
    source: str | Path,
    warehouse: Path,
    *,
    backup_id: str | None = None,
    force: bool = False,
    lost_at: dt.datetime | None = None,
    say: Say = lambda _: None,
) -> Restored:
    """Bring back `backup_id` (the last one) of `source` as `warehouse`; the event is written to its operations log.

    lost_at: the moment of the loss, by default now. With `force` a warehouse that is there is put aside as
    <name>.before-<backup>, NightError if anybody works on it; without, RestoreError. Nothing is visible before every
    hash was checked.
    """
    started, begun = time.perf_counter(), dt.datetime.now(dt.UTC)
    warehouse = warehouse.absolute()
    if warehouse.is_symlink() and not _holds_something(warehouse):
        warehouse = warehouse.resolve()  # a folder is renamed onto an empty folder, never onto a link
    store = Store(source)
    manifest = store.manifest(backup_id)
    chosen = manifest["backup_id"]
    if _holds_something(warehouse) and not force:
        raise RestoreError(
            f"{warehouse} is not empty: restore into another folder (--warehouse), or put this one aside (--force)"
        )
    with _alone(warehouse):  # tell it now; what counts is when it is put aside
        pass
    staging = warehouse.with_name(f".{warehouse.name}.restoring-{chosen}")
    try:
        with durable.held(warehouse.with_name(f".{warehouse.name}.restore.lock"), note=f"process {os.getpid()}"):
            for other in warehouse.parent.glob(f".{warehouse.name}.restoring-*"):
                if other != staging:
                    shutil.rmtree(other)
            reused = _fill(store, manifest, staging, say)
            notes = _settle(staging, manifest)
            taken_at = dt.datetime.fromisoformat(manifest["taken_at"])
            rpo_s = max(((lost_at or begun) - taken_at).total_seconds(), 0.0)
            if taken_at > begun:
                notes.append(
                    f"the backup says that it was taken at {taken_at:%Y-%m-%d %H:%M:%S} UTC, which is still to come: a"
                    " clock was wrong, and the RPO is not known"
                )
            with _alone(warehouse):
                replaced = _put_in_place(staging, warehouse, chosen)
    except durable.BusyError as error:
        raise RestoreError(f"{warehouse} is being restored already ({error}): wait for it") from None
    except OSError as error:
        raise RestoreError(f"{error}: mend that and run the same command again, it goes on from there") from None
    rto_s = time.perf_counter() - started
    size = manifest["bytes"]
    said = f"backup {chosen} of {store.name}"
    operations_log.append(warehouse, "restore", ok=True, seconds=rto_s, bytes=size, rpo_s=rpo_s, detail=said)
    files = len(manifest["files"])
    return Restored(chosen, files, size, reused, rto_s, rpo_s, manifest["release_id"], replaced, notes)


def _holds_something(warehouse: Path) -> bool:
    return os.path.lexists(warehouse) and not (warehouse.is_dir() and not any(warehouse.iterdir()))


@contextlib.contextmanager
def _alone(warehouse: Path) -> Generator[None]:
    """Nobody else works on the warehouse that is to be put aside, if there is one."""
    if not (warehouse.is_dir() and _holds_something(warehouse)):
        yield
        return
    with night_lock.alone(warehouse):
        yield


def _fill(store: Store, manifest: dict[str, Any], staging: Path, say: Say) -> int:
    """Bring every file of the manifest into `staging`; returns how many were there already."""
    staging.mkdir(parents=True, exist_ok=True)
    for entry in manifest["files"]:
        _refuse_outside(entry["path"])
    for folder in {(staging / entry["path"]).parent for entry in manifest["files"]}:
        folder.mkdir(parents=True, exist_ok=True)

    by_blob: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in manifest["files"]:
        by_blob[entry["sha256"]].append(entry)

    def one(same: list[dict[str, Any]]) -> tuple[int, int]:
        """Bring one blob to all files that it is the bytes of; returns how many those are, how many were there."""
        have = [entry for entry in same if _is_there(staging / entry["path"], entry)]
        for entry in same:
            path = staging / entry["path"]
            if entry in have:
                path.chmod(entry["mode"])
                continue
            new = path.with_name(f".new-{path.name}")
            store.fetch(entry["sha256"], new)
            new.chmod(entry["mode"])
            os.replace(new, path)
        return len(same), len(have)

    reused, done, told = 0, 0, time.monotonic()
    with ThreadPoolExecutor(RECEIVERS) as pool:
        for count, were_there in pool.map(one, by_blob.values()):
            reused, done = reused + were_there, done + count
            if time.monotonic() - told > 2:
                told = time.monotonic()
                say(f"{done} of {len(manifest['files'])} files")
    return reused


def _is_there(path: Path, entry: dict[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == entry["bytes"] and sha256_file(path) == entry["sha256"]


def _settle(staging: Path, manifest: dict[str, Any]) -> list[str]:
    """Links, and what follows from the log: aliases, pointer, links of the current release. Then all to the disk."""
    notes = [f"when it was backed up: {fault}" for fault in manifest["faults"]]
    if manifest["lake"] != "full":
        notes.append(f"of the lake the backup holds only its {manifest['lake']}: {_REST[manifest['lake']]}")
    for name, target in manifest["links"].items():
        link = staging / name
        _refuse_outside(os.path.normpath(PurePosixPath(name).parent / target))
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        os.symlink(target, link)
    decision_log.verify(staging)
    if decision_log.entries(staging):
        champions.write_aliases(staging)
    try:
        current = releases.current(staging)
        if current is not None:
            notes += served_links.follow(staging, current)
    except releases.ReleaseError as error:
        notes.append(str(error))
    os.sync()  # all at once: a thousand files flushed one by one take longer
    return notes


def _put_in_place(staging: Path, warehouse: Path, backup_id: str) -> Path | None:
    """Rename `staging` to `warehouse`; returns where the one that was there is now."""
    aside = None
    if _holds_something(warehouse):
        aside = warehouse.with_name(f"{warehouse.name}.before-{backup_id}")
        number = 1
        while os.path.lexists(aside):
            number += 1
            aside = warehouse.with_name(f"{warehouse.name}.before-{backup_id}-{number}")
        os.rename(warehouse, aside)
    try:
        os.rename(staging, warehouse)  # also onto an empty folder
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        raise RestoreError(f"{warehouse} is a mount point: restore into a folder below it") from None
    durable.sync(warehouse.parent)
    return aside


def _refuse_outside(name: str) -> None:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise RestoreError(f"the backup names {name!r}, which lies outside of the warehouse")
