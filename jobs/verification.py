"""`fieldmart verify`: every checksum of a backup, or of a warehouse, is worked out again; each fault is one line.

What is checked when: a model is checked when it is loaded, a release before a rollback points to it, stale scores
before they are served, a restored file before it is visible. A data set that a step finds is only held against the
sizes in its manifest, since reading all of it every time would cost as much as making some of it. This reads all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ffm_udf import card as cards
from jobs import champions, decision_log, pointings, reachable, registry, releases, served_links
from jobs.backup_store import BackupError, Store
from jobs.lake import Dataset, LakeError, read_json
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
    """Check log, pointer, aliases, links, registry, releases, models and all data sets of the lake."""
    faults = [*_of_log(warehouse), *_of_pointer(warehouse), *_of_cycles(warehouse), *_of_links(warehouse)]
    faults += [*_of_registry(warehouse), *gone(warehouse)]
    checks: list[Callable[[], str | None]] = []
    for path in sorted((warehouse / "releases").glob("[!.]*")):
        checks.append(lambda path=path: _of_release(warehouse, path.name))
    for path in sorted((warehouse / "models").glob("[!.]*/")):
        checks.append(lambda path=path: _of_model(warehouse, path.name))
    for path in sorted((warehouse / "lake").glob("*/*/manifest.json")):
        checks.append(lambda path=path: _of_dataset(path))
    with ThreadPoolExecutor(READERS) as pool:
        faults += [fault for fault in pool.map(lambda check: check(), checks) if fault]
    return Verified(f"warehouse {warehouse}", len(checks) + 6, list(dict.fromkeys(faults)))


@dataclass
class Unknown:
    """What stands in the warehouse although the decision log does not know it: releases, cycles (contract and date),
    and the decisions that cycles and aliases name. `faults` is all of it in words, a line each."""

    releases: list[str] = field(default_factory=list)
    cycles: list[tuple[str, str]] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def log_faults(warehouse: Path) -> list[str]:
    """What the decision log does not know although it stands in the warehouse, a line each: entries were lost, the
    whole file perhaps. A log that does not hold is its own one fault."""
    try:
        return unknown(warehouse).faults
    except decision_log.LogError as error:
        return [str(error)]


def unknown(warehouse: Path) -> Unknown:
    """What the decision log has lost, by what is left of it. Raises LogError if the log does not hold.

    A publication that died before its entry is none: the next one, or `fieldmart heal`, does what is left of it.
    """
    aliases, seen = read_json(champions.aliases_path(warehouse)), releases.list_releases(warehouse)
    nights = reachable.nights(warehouse)
    log = decision_log.entries(warehouse)  # last: whatever stood before it was logged before
    path = decision_log.path_of(warehouse)
    decided = {entry.decision_id for entry in log if entry.kind == "decision"}
    shown = {pointings.target(entry) for entry in log}
    found = Unknown()
    for release in seen:
        if release.release_id not in shown and not releases.has_died(warehouse, release, log):
            found.releases.append(release.release_id)
            found.faults.append(f"{path}: has no publication of release {release.release_id}")
    for alias, held in aliases.items():
        for contract, about in held.items() if isinstance(held, dict) else ():
            named = about.get("decision_id") if isinstance(about, dict) else None
            if isinstance(named, str) and named not in decided:
                found.decisions.append(named)
                found.faults.append(f"{path}: has no decision {named}, {alias} of {contract}")
    for night in nights:
        run, before = night.state.get("run", {}), len(found.faults)
        of = f"of the cycle {night.contract} {night.date}"
        if run.get("decision_id") and run["decision_id"] not in decided:
            found.decisions.append(run["decision_id"])
            found.faults.append(f"{path}: has no decision {run['decision_id']} {of}")
        if run.get("published_id") and run["published_id"] not in shown:
            found.faults.append(f"{path}: has no publication {run['published_id']} {of}")
        if len(found.faults) > before:
            found.cycles.append((night.contract, str(night.date)))
    return found


def refuse_lost_log(warehouse: Path) -> None:
    """LogError if entries of the decision log were lost: what follows from it must not be written or removed then."""
    found = log_faults(warehouse)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise decision_log.LogError(
            f"{found[0]}{more}: entries were lost, bring the log back from a backup,"
            " or see docs/recovery.md for what to do when none has them"
        )


def _of_log(warehouse: Path) -> Iterator[str]:
    yield from log_faults(warehouse)
    try:
        report = decision_log.verify(warehouse)
    except decision_log.LogError:
        return
    if report.torn_bytes:
        yield f"{decision_log.path_of(warehouse)}: {report.torn_bytes} bytes of an unfinished entry (they do not count)"
    path = champions.aliases_path(warehouse)
    if report.entries and path.exists() and read_json(path) != champions.aliases(decision_log.entries(warehouse)):
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
        yield f"{warehouse / 'current.json'}: names {here}, the decision log {named}{_mended(warehouse, named)}"
    told = read_json(warehouse / "current.json").get("path")
    if current is not None and told != f"releases/{here}":
        yield f"{warehouse / 'current.json'}: names {here}, but its path is {told}: `fieldmart heal` mends it"
    if current is not None and (warehouse / "current").resolve() != current.folder.resolve():
        yield f"{warehouse / 'current'}: does not point to {here}: `fieldmart heal` mends it"


def _mended(warehouse: Path, release_id: str) -> str:
    """How readers come to see the release again that the log points to."""
    try:
        is_whole = releases.damage(releases.named(warehouse, release_id)) is None
    except releases.ReleaseError:
        is_whole = False
    return (
        ": `fieldmart heal` mends it" if is_whole else ", which is missing or damaged: mend that, then `fieldmart heal`"
    )


def _of_cycles(warehouse: Path) -> Iterator[str]:
    for path in reachable.unreadable_cycles(warehouse):
        yield f"{path}: is damaged, or not named after a date"


def gone(warehouse: Path) -> Iterator[str]:
    """What the current release, the last cycle of each contract and the champions need, and is wholly gone.

    Older cycles and releases are no promise: the clean-up takes what only they name.
    """
    try:
        here = releases.current(warehouse)
        newest = {night.contract: night for night in reachable.nights(warehouse)}
        named = reachable.named(warehouse, newest.values(), [here] if here else [], (), (), fallback=False)
    except (decision_log.LogError, releases.ReleaseError):
        return  # told already
    yield from named.unreadable
    for name, key in sorted(named.datasets):
        if not (warehouse / "lake" / name / key / "manifest.json").is_file():
            yield f"{name} {key}: is gone, the current release, the last cycle or a champion needs it"
    for model_id in sorted(named.models):
        if not (warehouse / "models" / model_id / cards.NAME).is_file():
            yield f"model {model_id}: is gone, the current release, the last cycle or a champion needs it"


def _of_links(warehouse: Path) -> Iterator[str]:
    for link, (name, key) in reachable.links(warehouse):
        if not (link.resolve().parent / "manifest.json").is_file():
            yield f"{link}: points to {name} {key}, which is gone"
    try:
        log = decision_log.entries(warehouse)
    except decision_log.LogError:
        return  # told already
    for contract in sorted({entry.payload["contract"] for entry in log if entry.kind in pointings.POINTING}):
        for link, key in served_links.misplaced(warehouse, contract):
            yield f"{link}: does not show scores {key}, which stand for its date: `fieldmart heal` mends it"


def _of_registry(warehouse: Path) -> Iterator[str]:
    path = registry.path_of(warehouse)
    if path.is_file() and not registry.is_whole(path):
        yield f"{path}: is damaged: `fieldmart heal` makes it anew"


def _of_release(warehouse: Path, release_id: str) -> str | None:
    try:
        found = releases.damage(releases.named(warehouse, release_id))
    except releases.ReleaseError:
        return f"release {release_id}: {releases.why_unreadable(warehouse, release_id)}"
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
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{name} {key}: manifest.json cannot be read ({error})"
    return None
