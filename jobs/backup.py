"""One consistent backup of a warehouse: `fieldmart backup TARGET`.

What it takes is worked out in jobs/backup_contents.py, where it is put in jobs/backup_store.py. A night may run
meanwhile and waits for milliseconds at most. `fieldmart gc` waits for a backup; should publishing prune a release
meanwhile, it is left out, and if it is the one that was current, the names are read once more.
"""

from __future__ import annotations

import datetime as dt
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import operations_log
from jobs.backup_contents import File, Found, LakePart, collect
from jobs.backup_store import BackupError, Store
from jobs.lake import sha256_file
from jobs.night_lock import using

SENDERS = 8
TRIES = 5  # to read names whose current release is not pruned while it is copied

Say = Callable[[str], None]


@dataclass(frozen=True)
class Made:
    """What a backup did."""

    backup_id: str
    files: int
    bytes: int  # of all that it holds
    sent_files: int
    sent_bytes: int  # of what the target did not have
    seconds: float
    freed_bytes: int
    faults: list[str]  # files left out because they are damaged


def backup(
    warehouse: Path,
    target: str | Path,
    *,
    lake: LakePart = LakePart.full,
    keep: int | None = None,
    conf: Path | None = None,
    airflow_db: Path | None = None,
    also: tuple[Path, ...] = (),
    is_logged: bool = True,
    say: Say = lambda _: None,
) -> Made:
    """Back up `warehouse` to `target` (a path or an fsspec URL) and return what was done; a night may run meanwhile.

    conf: folder of contracts and policies to take along; airflow_db: Airflow's SQLite file; also: other files, for
    example a database dump. keep: remove all but the last so many backups afterwards. is_logged: whether it counts as
    an event of the warehouse. Raises BackupError if there is no warehouse, or the target cannot be used.
    """
    started, warehouse = time.perf_counter(), warehouse.resolve()
    if not (warehouse / "log").is_dir() and not (warehouse / "lake").is_dir():
        raise BackupError(f"{warehouse} is no warehouse: it has neither log nor lake")
    store = Store(target)
    backup_id = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:4]}"  # sorts by time
    with using(warehouse), store.writing(), tempfile.TemporaryDirectory(prefix="fieldmart-backup-") as scratch:
        store.sweep()
        for turn in range(1, TRIES + 1):
            found = collect(warehouse, Path(scratch) / str(turn), lake, conf, airflow_db, also)
            entries, sent, faults = _send(found, store, say)
            lost = _current_is_lost(found, entries)
            if not lost:
                break
            if turn == TRIES:
                raise BackupError(f"release {lost} vanished while it was copied, {TRIES} times: run the backup again")
        size = sum(entry["bytes"] for entry in entries)
        manifest = found.about | {"lake": lake, "files": entries, "links": found.links, "bytes": size, "faults": faults}
        _refuse_missing(store, entries)
        store.commit(backup_id, manifest)
        freed = store.prune(keep)[1] if keep else 0
    seconds = time.perf_counter() - started
    made = Made(backup_id, len(entries), size, len(sent), sum(sent.values()), seconds, freed, faults)
    said = f"{backup_id}: {made.sent_files} of {made.files} files sent" + "".join(f"; {fault}" for fault in faults)
    if is_logged:
        size, is_whole = made.sent_bytes, not faults
        operations_log.append(warehouse, "backup", ok=is_whole, seconds=seconds, bytes=size, rpo_s=0.0, detail=said)
    return made


def _send(found: Found, store: Store, say: Say) -> tuple[list[dict[str, Any]], dict[str, int], list[str]]:
    """Send what the target lacks; returns the manifest's entries, bytes by blob that was sent, and what is damaged."""
    there = store.blobs()
    sent: dict[str, int] = {}
    faults = list(found.faults)
    lost: set[str] = set()
    total, done, told = len(found.files), 0, time.monotonic()

    def one(file: File) -> dict[str, Any] | None:
        sha256, size, mode = file.sha256, file.bytes, file.mode
        try:
            if sha256 is None or sha256 not in there or size not in (None, there[sha256]):
                sha256, size = sha256 or sha256_file(file.path), file.path.stat().st_size
                if there.get(sha256) != size and sha256 not in sent:
                    store.send(file.path, sha256)
                    sent[sha256] = size
            return {"path": file.name, "sha256": sha256, "bytes": size or there.get(sha256, 0), "mode": mode}
        except FileNotFoundError:
            if file.path.parent.exists():
                faults.append(f"{file.name} is missing")
            else:  # a release that was pruned meanwhile: the whole of it is left out
                lost.add(_release_of(file.name))
        except BackupError as error:
            faults.append(str(error))
        return None

    entries = []
    with ThreadPoolExecutor(SENDERS) as pool:
        for entry in pool.map(one, found.files):
            done += 1
            entries += [entry] if entry is not None else []
            if time.monotonic() - told > 2:
                told = time.monotonic()
                say(f"{done} of {total} files, {sum(sent.values()) / 2**20:,.0f} MiB sent")
    return [entry for entry in entries if _release_of(entry["path"]) not in lost], sent, sorted(faults)


def _release_of(name: str) -> str:
    """releases/<id>, or the whole name of a file of none."""
    parts = name.split("/")
    return "/".join(parts[:2]) if parts[0] == "releases" else name


def _current_is_lost(found: Found, entries: list[dict[str, Any]]) -> str | None:
    """The current release, if it is not in the backup: it was pruned after a newer one became current."""
    release_id = found.about["release_id"]
    names = {entry["path"] for entry in entries}
    return release_id if release_id and f"releases/{release_id}/manifest.json" not in names else None


def _refuse_missing(store: Store, entries: list[dict[str, Any]]) -> None:
    """BackupError if a blob that the manifest is to name is not there: another backup's clean-up may have taken it."""
    there = store.blobs()
    missing = [entry["path"] for entry in entries if there.get(entry["sha256"]) != entry["bytes"]]
    if missing:
        raise BackupError(f"{len(missing)} files are not in {store.name} after all ({missing[0]}): run it again")
