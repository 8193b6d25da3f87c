"""`fieldmart verify`: every checksum of a backup, or of a warehouse, is worked out again; each fault is one line.

What is checked when: a model is checked when it is loaded, a release before a rollback points to it, stale scores
before they are served, a restored file before it is visible. A data set that a step finds is only held against the
sizes in its manifest, since reading all of it every time would cost as much as making some of it. This reads all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ffm_udf import card as cards
from jobs import champions, decision_log, pointings, reachable, releases
from jobs.backup_store import BackupError, Store
from jobs.lake import Dataset, LakeError
from jobs.models import read_card

READERS = 4

Say = Callable[[str], None]


@dataclass(frozen=True)
class Verified:
    """What was read, and what is wrong, a line each."""

    what: str
    checked: int
    faults: list[str]


def verify(where: str | Path, backup_id: str | None = None) -> Verified:
    """Verify `where`: a warehouse, or the target of backups (all of them, or `backup_id` alone)."""
    path = Path(where)
    if path.is_dir() and ((path / "log").is_dir() or (path / "lake").is_dir()):
        return verify_warehouse(path.resolve())
    return verify_backups(Store(where), backup_id)


def verify_backups(store: Store, backup_id: str | None = None) -> Verified:
    """Read every blob that a backup names."""
    ids = [backup_id] if backup_id else store.ids()
    if not ids:
        store.manifest()  # says that there is none
    names: dict[str, str] = {}  # blob -> a file that needs it
    faults = []
    for each in ids:
        try:
            manifest = store.manifest(each)
        except BackupError as error:
            faults.append(str(error))
            continue
        for entry in manifest["files"]:
            names.setdefault(entry["sha256"], f"{each}: {entry['path']}")
    with ThreadPoolExecutor(READERS) as pool:
        found = zip(names.items(), pool.map(store.fault, names), strict=True)
        faults += [f"{file}: blob {sha256[:12]} {fault}" for (sha256, file), fault in found if fault]
    return Verified(f"{len(ids)} backups in {store.name}", len(names), sorted(faults))


def verify_warehouse(warehouse: Path) -> Verified:
    """Check log, pointer, aliases, links, releases, models and all data sets of the lake."""
    faults = [*_of_log(warehouse), *_of_pointer(warehouse), *_of_cycles(warehouse), *_of_links(warehouse)]
    checks: list[Callable[[], str | None]] = []
    for path in sorted((warehouse / "releases").glob("[!.]*")):
        checks.append(lambda path=path: _of_release(warehouse, path.name))
    for path in sorted((warehouse / "models").glob("[!.]*/")):
        checks.append(lambda path=path: _of_model(warehouse, path.name))
    for path in sorted((warehouse / "lake").glob("*/*/manifest.json")):
        checks.append(lambda path=path: _of_dataset(path))
    with ThreadPoolExecutor(READERS) as pool:
        faults += [fault for fault in pool.map(lambda check: check(), checks) if fault]
    return Verified(f"warehouse {warehouse}", len(checks) + 4, faults)


def _of_log(warehouse: Path) -> Iterator[str]:
    try:
        report = decision_log.verify(warehouse)
    except decision_log.LogError as error:
        yield str(error)
        return
    if report.torn_bytes:
        yield f"{decision_log.path_of(warehouse)}: {report.torn_bytes} bytes of an unfinished entry (they do not count)"
    path = champions.aliases_path(warehouse)
    if (
        report.entries
        and path.exists()
        and json.loads(path.read_text()) != champions.aliases(decision_log.entries(warehouse))
    ):
        yield f"{path}: is not what the decision log says: `fieldmart heal` writes it anew"


def _of_pointer(warehouse: Path) -> Iterator[str]:
    try:
        named = pointings.last(decision_log.entries(warehouse))
    except decision_log.LogError:
        named = None
    try:
        current = releases.current(warehouse)
    except (releases.ReleaseError, ValueError, KeyError) as error:
        yield f"{warehouse / 'current.json'}: {error}"
        return
    here = current.release_id if current else None
    if named is not None and here != named:
        yield f"{warehouse / 'current.json'}: names {here}, the decision log {named}: `fieldmart heal` mends it"
    if current is not None and (warehouse / "current").resolve() != current.folder.resolve():
        yield f"{warehouse / 'current'}: does not point to {here}: `fieldmart heal` mends it"


def _of_cycles(warehouse: Path) -> Iterator[str]:
    known = {(night.contract, str(night.date)) for night in reachable.nights(warehouse)}
    for path in sorted((warehouse / "cycles").glob("*/[!.]*.json")):
        if (path.parent.name, path.stem) not in known:
            yield f"{path}: is not JSON, or not named after a date"


def _of_links(warehouse: Path) -> Iterator[str]:
    for link, (name, key) in reachable.links(warehouse):
        if not (link.resolve().parent / "manifest.json").is_file():
            yield f"{link}: points to {name} {key}, which is gone"


def _of_release(warehouse: Path, release_id: str) -> str | None:
    try:
        found = releases.damage(releases.named(warehouse, release_id))
    except releases.ReleaseError:
        return f"release {release_id}: manifest.json is missing or cannot be read"
    return f"release {release_id}: {found} (`fieldmart rebuild {release_id}`)" if found else None


def _of_model(warehouse: Path, model_id: str) -> str | None:
    try:
        found = cards.damaged(warehouse / "models" / model_id, read_card(warehouse, model_id))
    except LakeError:
        if (warehouse / "models" / model_id / cards.NAME).exists():
            return f"model {model_id}: {cards.NAME} cannot be read"
        return None  # never finished: nothing reads it
    return f"model {model_id}: {found} is missing or was changed after writing" if found else None


def _of_dataset(path: Path) -> str | None:
    name, key = path.parent.parent.name, path.parent.name
    try:
        Dataset(name, key, path.parent, json.loads(path.read_text())).verify()
    except LakeError as error:
        return str(error)
    except (OSError, ValueError, KeyError) as error:
        return f"{name} {key}: manifest.json cannot be read ({error})"
    return None
