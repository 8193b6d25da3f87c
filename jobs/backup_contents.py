"""What a backup takes of a warehouse: its files with the hashes that their manifests name, its links, what it says.

What is named is read before what it names is copied, and whoever writes does it the other way round: a data set is
whole before a cycle names it, a model before the log, a release before the pointer. So what is read here while a night
runs never names what is not there. Pointer and decision log are read together under the locks that publishing holds.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import json
import os
import shutil
import sqlite3
import stat
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs import backup_checks, decision_log, facts, reachable, releases, retention, verification
from jobs.backup_store import BackupError
from jobs.durable import locked
from jobs.lake import LakeError
from jobs.models import read_card

# What no night makes again, and what serves.
SNAPSHOT = (*retention.SNAPSHOT, "vectors", "calibrators")
# At the top of a warehouse: not copied as it is, but by names, or not at all.
BY_NAME = ("lake", "models", "releases", "scores", "vectors", "current", "current.json")
NEVER = ("work", "mixing", "heartbeats", "spark", "backups", "outside")
OUTSIDE = "outside"  # where a restored warehouse has what lay outside of it: conf, Airflow's database, other files


class LakePart(enum.StrEnum):
    """How much of the lake a backup takes of what is named: all of it; the facts and snapshots that marts are built
    from, with the manifests of the rest; manifests only."""

    full = "full"
    facts = "facts"
    manifests = "manifests"


@dataclass(frozen=True)
class File:
    """One file to be in the backup: its name in the warehouse, where its bytes are now, and its hash if a manifest or
    a card says what it must be: then a damaged file never takes the place of a good blob."""

    name: str
    path: Path
    sha256: str | None = None
    bytes: int | None = None

    @property
    def mode(self) -> int:
        if self.bytes is not None:  # of a data set or a release, whoever may have changed it since
            return 0o444
        return stat.S_IMODE(self.path.stat().st_mode) if self.path.exists() else 0o444


@dataclass
class Found:
    """What goes into the manifest: files, links, and what is said of the whole."""

    files: list[File] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, name: str, path: Path, sha256: str | None = None, bytes: int | None = None) -> None:
        self.files.append(File(name, path, sha256, bytes))


def collect(
    warehouse: Path, scratch: Path, lake: LakePart, conf: Path | None, airflow_db: Path | None, also: tuple[Path, ...]
) -> Found:
    """All that is to be copied. What changes in place (cycles, log, pointer, databases) is copied to `scratch` now.

    FileNotFoundError if some of it was replaced meanwhile: collect again.
    """
    found = Found()
    for name, path in _changing(warehouse):
        found.add(name, _frozen(path, scratch / name))
    nights = reachable.nights(warehouse)
    pointed = list(reachable.links(warehouse))
    for link, _ in pointed:
        found.links[link.relative_to(warehouse).as_posix()] = os.readlink(link)
    with locked(warehouse / "releases" / ".lock"), _log_lock(warehouse):
        taken_at = dt.datetime.now(dt.UTC)
        log = decision_log.path_of(warehouse)
        for path in (log, warehouse / "current.json"):
            if path.exists():
                name = path.relative_to(warehouse).as_posix()
                found.add(name, _frozen(path, scratch / name))
        here = _current(warehouse, found)
        if (warehouse / "current").is_symlink():
            found.links["current"] = os.readlink(warehouse / "current")
        kept = releases.list_releases(warehouse)
        found.faults += backup_checks.unreadable(warehouse, kept)
    _add_releases(found, warehouse, kept)
    models = [path.parent.name for path in (warehouse / "models").glob("[!.]*/card.json")]
    for model_id in sorted(models):
        _add_model(found, warehouse, model_id)
    wanted = reachable.named(warehouse, nights, kept, [key for _, key in pointed], models).datasets
    _add_lake(found, warehouse, wanted, lake)
    found.faults += verification.gone(warehouse)
    for name, path in _outside(conf, airflow_db, also):
        found.add(f"{OUTSIDE}/{name}", _frozen(path, scratch / OUTSIDE / name))
    last = decision_log.entries(warehouse)[-1:]
    found.about = {
        "taken_at": taken_at.isoformat(),  # what was committed before is in it
        "newest_at": last[0].at if last else taken_at.isoformat(),
        "release_id": here.release_id if here else None,
        "decisions": len(decision_log.entries(scratch)),
        "warehouse": warehouse.name,
    }
    return found


def _current(warehouse: Path, found: Found) -> releases.Release | None:
    """The current release; one that cannot be read is a fault, and no reason for no backup."""
    try:
        return releases.current(warehouse)
    except releases.ReleaseError as error:
        found.faults.append(str(error))
        return None


def _changing(warehouse: Path) -> Iterator[tuple[str, Path]]:
    """Files that are written in place or replaced, and whatever else lies in the warehouse that this does not know;
    the log and the pointer are read later."""
    for top in sorted(warehouse.iterdir()):
        if top.name in (*BY_NAME, *NEVER) or top.name.startswith("."):
            continue
        for path in sorted([top] if top.is_file() else top.rglob("*")):
            is_log = path == decision_log.path_of(warehouse)
            is_hidden = any(part.startswith(".") for part in path.relative_to(warehouse).parts)  # being written
            is_kept = path.is_file() and not path.is_symlink() and not is_hidden and not is_log
            if is_kept and path.suffix not in (".lock", ".db-wal", ".db-shm", ".db-journal"):
                yield path.relative_to(warehouse).as_posix(), path
    aliases = warehouse / "models" / "aliases.json"
    if aliases.is_file():
        yield "models/aliases.json", aliases


def _frozen(path: Path, copy: Path) -> Path:
    """A copy of the file as it is at one moment; of an SQLite database by its own means."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    with path.open("rb") as stream:
        is_sqlite = stream.read(16) == b"SQLite format 3\x00"
    if is_sqlite:
        with (
            contextlib.closing(sqlite3.connect(path, timeout=60)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
            target.execute("pragma journal_mode = delete")
        shutil.copymode(path, copy)
    else:
        shutil.copy2(path, copy)
    return copy


@contextlib.contextmanager
def _log_lock(warehouse: Path) -> Generator[None]:
    with locked(decision_log.path_of(warehouse).with_suffix(".lock")):
        yield


def _add_releases(found: Found, warehouse: Path, kept: list[releases.Release]) -> None:
    for release in kept:
        folder = f"releases/{release.release_id}"
        found.add(f"{folder}/manifest.json", release.folder / "manifest.json")
        for name, entry in release.manifest["files"].items():
            found.add(f"{folder}/{name}", release.folder / name, entry["sha256"], entry["bytes"])


def _add_model(found: Found, warehouse: Path, model_id: str) -> None:
    """The files of a model with the hashes of its card; the card that cannot be read as it is."""
    folder = warehouse / "models" / model_id
    try:
        known = read_card(warehouse, model_id)["files"]
    except (LakeError, KeyError):
        known = {}
    for name in sorted(
        {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} | {*known}
    ):
        if not name.rpartition("/")[2].startswith("."):
            found.add(f"models/{model_id}/{name}", folder / name, known.get(name))


def _add_lake(found: Found, warehouse: Path, wanted: set[reachable.Key], part: LakePart) -> None:
    for name, key in sorted(wanted):
        folder = f"lake/{name}/{key}"
        path = warehouse / folder / "manifest.json"
        try:
            manifest = json.loads(path.read_text())
        except (
            OSError,
            ValueError,
        ):  # removed by an earlier clean-up, or never finished: made again where it is needed
            continue
        if not (part == LakePart.full or (part == LakePart.facts and (name in facts.FACTS or name in SNAPSHOT))):
            found.add(f"{OUTSIDE}/manifests/{folder}/manifest.json", path)
            continue
        found.add(f"{folder}/manifest.json", path)
        for entry in manifest["files"]:
            run = f"{manifest['run']}/{entry['path']}"
            found.add(f"{folder}/{run}", path.parent / run, entry["sha256"], entry["bytes"])


def _outside(conf: Path | None, airflow_db: Path | None, also: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    """Files from outside of the warehouse by their name below OUTSIDE; BackupError for one that would not be in it."""
    if conf is not None:
        policies = sorted(conf.glob("*.yml"))
        if not policies:
            raise BackupError(f"{conf} must be a folder of contracts and policies (*.yml), got none")
        for path in policies:
            yield f"conf/{path.name}", path
    for name, count in Counter(path.name for path in also).items():
        if count > 1:
            raise BackupError(f"files taken along must have names of their own, got {count} that are called {name}")
    for folder, path in [("airflow", airflow_db), *(("also", path) for path in also)]:
        if path is not None:
            if not path.is_file():
                raise BackupError(f"{path} must be a file that can be read, got none")
            yield f"{folder}/{path.name}", path
