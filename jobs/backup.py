"""One consistent backup of a warehouse: `fieldmart backup TARGET`.

What it takes is worked out in jobs/backup_contents.py, where it is put in jobs/backup_store.py. A night may run
meanwhile and waits for milliseconds at most. `fieldmart gc` waits for a backup; should publishing prune a release
meanwhile, it is left out, and if it is the one that was current, the names are read once more.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import backup_checks, decision_log, operations_log, verification
from jobs.backup_contents import File, Found, LakePart, collect
from jobs.backup_store import BackupError, Store
from jobs.lake import sha256_file
from jobs.night_lock import using

SENDERS = 8
TRIES = 5  # to read names while nothing of it is replaced, and the current release is not pruned
PAUSE_S = 0.2  # between them, times the number of the try

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
    faults: list[str]  # what is damaged, left out or gone; with any, no earlier backup is removed
    not_pruned: str | None = None  # why no earlier backup was removed although that was asked for


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
    check: bool = False,
    insist: bool = False,
    say: Say = lambda _: None,
) -> Made:
    """Back up `warehouse` to `target` (a path or an fsspec URL) and return what was done; a night may run meanwhile.

    conf: folder of contracts and policies to take along; airflow_db: Airflow's SQLite file; also: other files, for
    example a database dump. keep: remove all but the last so many backups afterwards. is_logged: whether it counts as
    an event of the warehouse. check: read what the target has already, and send again what is damaged there. insist:
    also if the decision log has lost entries. Raises BackupError if there is no warehouse, the target cannot be used or
    is another warehouse's, or entries were lost; LogError if the log cannot be read.
    """
    warehouse = warehouse.resolve()
    if not (warehouse / "log").is_dir() and not (warehouse / "lake").is_dir():
        raise BackupError(f"{warehouse} is no warehouse: it has neither log nor lake")
    store = Store(target)
    backup_checks.refuse_inside(store, warehouse)
    try:
        with using(warehouse):
            lost = verification.log_faults(warehouse)
            if lost and not insist:
                more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
                raise BackupError(
                    f"{lost[0]}{more}: entries of the decision log were lost, nothing was backed up. Bring the log back"
                    " from an earlier backup, or insist (--insist)"
                )
            made = _back_up(warehouse, store, lost, (lake, conf, airflow_db, also), keep, check, say)
    except (BackupError, OSError, decision_log.LogError) as error:
        if is_logged:
            with contextlib.suppress(OSError):
                operations_log.append(warehouse, "backup", ok=False, detail=str(error))
        if isinstance(error, OSError):
            raise BackupError(f"{error}: no backup was made; mend that, run the same command again") from None
        raise
    if is_logged:
        said = [f"{made.backup_id}: {made.sent_files} of {made.files} files sent", *made.faults, made.not_pruned or ""]
        operations_log.append(
            warehouse,
            "backup",
            ok=not made.faults,
            seconds=made.seconds,
            bytes=made.sent_bytes,
            rpo_s=0.0,
            detail="; ".join(filter(None, said)),
        )
    return made


Asked = tuple[LakePart, Path | None, Path | None, tuple[Path, ...]]  # part of the lake, conf, Airflow's database, also


def _back_up(
    warehouse: Path, store: Store, lost: list[str], asked: Asked, keep: int | None, check: bool, say: Say
) -> Made:
    """The backup itself, of a warehouse that is in use by this process; `lost`: faults that are known already."""
    started = time.perf_counter()
    own = backup_checks.identity(warehouse)
    work = warehouse / "work"  # what a kill leaves here goes with the next clean-up
    work.mkdir(exist_ok=True)
    with store.writing(), tempfile.TemporaryDirectory(prefix="backup-", dir=work) as scratch:
        backup_checks.refuse_others(store, warehouse, own)
        store.sweep()
        backup_id = store.new_id()
        found, entries, sent, faults = _copied(warehouse, store, Path(scratch), asked, check, say)
        faults = [*lost, *faults]
        size = sum(entry["bytes"] for entry in entries)
        manifest = found.about | {"lake": asked[0], "files": entries, "links": found.links, "bytes": size}
        _refuse_missing(store, entries)
        store.commit(backup_id, manifest | {"faults": faults, "warehouse_id": own})
        freed, not_pruned = _pruned(store, keep, faults)
    seconds = time.perf_counter() - started
    return Made(backup_id, len(entries), size, len(sent), sum(sent.values()), seconds, freed, faults, not_pruned)


def _copied(
    warehouse: Path, store: Store, scratch: Path, asked: Asked, check: bool, say: Say
) -> tuple[Found, list[dict[str, Any]], dict[str, int], list[str]]:
    """Read the names and send what they name; again from the start if something was replaced or pruned meanwhile."""
    for turn in range(1, TRIES + 1):
        try:
            found = collect(warehouse, scratch / str(turn), *asked)
        except FileNotFoundError as error:
            vanished: str | None = str(error.filename)
        else:
            entries, sent, faults = _send(found, store, check, say)
            vanished = _current_is_lost(found, entries)
            if not vanished:
                return found, entries, sent, faults
        time.sleep(PAUSE_S * turn)
    raise BackupError(f"{vanished} vanished while it was copied, {TRIES} times: run the backup again")


def _pruned(store: Store, keep: int | None, faults: list[str]) -> tuple[int, str | None]:
    """Remove all but the last `keep` backups; returns the bytes freed, and why nothing was removed if it was not."""
    if not keep:
        return 0, None
    if faults:
        return 0, "no earlier backup was removed: this one has faults"
    try:
        return store.prune(keep)[1], None
    except (BackupError, OSError) as error:
        return 0, f"the backup is made, but no earlier one was removed: {error}"


def _send(found: Found, store: Store, check: bool, say: Say) -> tuple[list[dict[str, Any]], dict[str, int], list[str]]:
    """Send what the target lacks, or with `check` has damaged; returns the manifest's entries, bytes by blob that was
    sent, and what is damaged."""
    there = store.blobs()
    if check:
        there = _whole(store, there, found)
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
                faults.append(f"{file.name} is missing: it is left out")
            else:  # a release that was pruned meanwhile: the whole of it is left out
                lost.add(_release_of(file.name))
        except BackupError as error:
            faults.append(f"{error}: it is left out")
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


def _whole(store: Store, there: dict[str, int], found: Found) -> dict[str, int]:
    """Without the blobs that are damaged, of those that are needed."""
    names = {file.sha256 or sha256_file(file.path) for file in found.files if file.sha256 or file.path.exists()}
    known = sorted(names & there.keys())
    with ThreadPoolExecutor(SENDERS) as pool:
        damaged = {name for name, fault in zip(known, pool.map(store.fault, known), strict=True) if fault}
    return {name: size for name, size in there.items() if name not in damaged}


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
