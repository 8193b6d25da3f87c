"""Releases: built out of sight, audited, made read-only, renamed into place, and only then pointed at.

    releases/.building-<id>/    being built; nobody reads it
    releases/.failed-<id>/      an audit failed; kept for a look, never pointed at
    releases/<id>/              mart.duckdb, whatever else was built, manifest.json; never changes
    current.json                {"release_id", "path"}: the only pointer, replaced atomically
    current                     a symlink to the same folder, for people; it may lag for a moment

A reader resolves `current.json` once and then reads below that path, so it sees one whole release whatever happens
meanwhile. A crash before the pointer is replaced leaves the last release, a crash after it the new one.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from jobs import decision_log, pointings
from jobs.durable import locked, point, sync, sync_tree
from jobs.lake import read_json, sha256_file, write_json
from jobs.release_audits import Audit

MART = "mart.duckdb"
KEEP = 7
# Two releases that agree in these are one: what they say about the data, and the decision they show.
SAME = ("contract", "content_sha256", "decision_id")
# What the log says of a publication beside: what served at a time can be told when the release is long gone.
SHOWN = ("cycle_date", "data_through", "score_source", "serving_model_id")

logger = logging.getLogger(__name__)


class ReleaseError(RuntimeError):
    """A release that cannot be published or pointed at; the last one stays."""


class MovedError(ReleaseError):
    """Readers were pointed elsewhere meanwhile; whoever did that is not overruled."""


class AuditError(ReleaseError):
    """A finished mart that must not be seen; the message lists what failed."""


@dataclass(frozen=True)
class Building:
    """A release in the making: write `mart.duckdb` and all else into `folder`."""

    release_id: str
    folder: Path


@dataclass(frozen=True)
class Release:
    """A published folder and its manifest."""

    release_id: str
    folder: Path
    manifest: dict[str, Any]
    is_current: bool


def require_warehouse(warehouse: Path) -> None:
    """ReleaseError if there is no warehouse at all; for commands that only make sense on one."""
    if not any((warehouse / name).is_dir() for name in ("log", "releases", "cycles", "lake", "models")):
        raise ReleaseError(f"no warehouse at {warehouse}: --warehouse must name one, or run the nightly first")


def open_building(warehouse: Path, release_id: str) -> Building:
    """An empty folder to build in, under `release_id` or, if that was taken before, `release_id`-2, -3, …

    What an earlier, unfinished build of the same id left is removed.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", release_id):
        raise ValueError(f"release_id must be letters, digits, '.', '_' and '-', got {release_id!r}")
    taken = {path.name for path in _root(warehouse).glob("*")}
    taken |= {entry.payload["release_id"] for entry in decision_log.entries(warehouse) if entry.kind == "publish"}
    free, number = release_id, 1
    while free in taken:
        number += 1
        free = f"{release_id}-{number}"
    folder = _building(warehouse, free)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Building(free, folder)


def publish(
    warehouse: Path,
    release_id: str,
    manifest: dict[str, Any],
    audits: Sequence[Audit],
    keep: int = KEEP,
) -> Release:
    """Make the built `release_id` the current release; returns what is current afterwards.

    `manifest` says at least contract, content_sha256, decision_id and data_through. If a release of the same contract
    says the same by the same decision already, the pointer goes there and the build is dropped; the pointer stays if
    the guard left that release. Afterwards `retained` of the contract's releases remain. Raises AuditError if an audit
    failed: the build becomes .failed-<id>, the pointer stays.
    """
    for name in (*SAME, "data_through"):
        if name not in manifest:
            raise ValueError(f"manifest must name {name}, got {sorted(manifest)}")
    if not audits:
        raise ValueError("audits must not be empty: an unaudited release is never published")
    folder = _building(warehouse, release_id)
    if not (folder / MART).is_file():
        raise ReleaseError(f"release {release_id}: {folder / MART} does not exist, build it first")
    with locked(warehouse / "releases" / ".lock"):
        _adopt(warehouse)
        _refuse_failed(warehouse, folder, release_id, audits)
        twin = _twin(warehouse, manifest)
        if twin:
            shutil.rmtree(folder)
            release_id = twin.release_id
        else:
            keep_marts_only(folder)
            said = {"release_id": release_id, "audits": [asdict(audit) for audit in audits]}
            _seal(folder, manifest | said | {"log_entries": len(decision_log.entries(warehouse))})
            os.rename(folder, _root(warehouse) / release_id)
            sync(_root(warehouse))
        if not twin or release_id not in pointings.left(decision_log.entries(warehouse)):
            _point(warehouse, release_id, "publish", manifest)
        _prune(warehouse, manifest["contract"], keep)
    return _get(warehouse, release_id)


def rollback(warehouse: Path, to: str | None = None) -> Release:
    """Point back at release `to`, or at the one published before the current one of the same contract, passing over
    those that the guard left.

    The target's files are checked against its manifest first. Raises ReleaseError if there is no such release.
    """
    with locked(warehouse / "releases" / ".lock"):
        _adopt(warehouse)
        found = list_releases(warehouse)
        names = ", ".join(release.release_id for release in found) or "none"
        if to is None:
            here = next((release for release in found if release.is_current), None)
            if here is None:
                raise ReleaseError(f"nothing to roll back: no release is current (releases: {names})")
            contract = here.manifest["contract"]
            left = pointings.left(decision_log.entries(warehouse))
            before = [r for r in found[: found.index(here)] if r.manifest["contract"] == contract]
            older = [r for r in before if r.release_id not in left]
            if not older:
                raise ReleaseError(
                    f"nothing to roll back to before {here.release_id} of {contract} (releases: {names})"
                )
            to = older[-1].release_id
        target = named(warehouse, to)
        broken = damage(target)
        if broken:
            raise ReleaseError(f"release {to} is damaged, the current one stays: {broken}")
        _point(warehouse, to, "rollback", target.manifest)
    return _get(warehouse, to)


def leave(warehouse: Path, release_id: str, to: str | None, payload: dict[str, Any]) -> decision_log.Entry:
    """Leave `release_id` for `to` on behalf of the guard, in one flip, and log it with `payload`.

    The pointer moves if it names the release that is left; another contract's current release stays. Without `to` the
    release stays readable. Raises ReleaseError if `to` is damaged, MovedError if the publication of `release_id` is not
    the last thing that was done for the contract: it was judged without the lock.
    """
    with locked(warehouse / "releases" / ".lock"):
        _refuse_moved(warehouse, release_id, payload["contract"])
        if to is not None:
            broken = damage(named(warehouse, to))
            if broken:
                raise ReleaseError(f"release {to} is damaged, {release_id} stays: {broken}")
            if _pointed(warehouse) == release_id:
                _write_pointer(warehouse, to)
        return decision_log.append(warehouse, "guard", payload | {"release_id": release_id, "to": to})


def _refuse_moved(warehouse: Path, release_id: str, contract: str) -> None:
    log = decision_log.entries(warehouse)
    done = [entry for entry in log if entry.kind in pointings.POINTING and entry.payload["contract"] == contract]
    if not done or (done[-1].kind, done[-1].payload["release_id"]) != ("publish", release_id):
        told = f": the log's last is a {done[-1].kind} of {done[-1].payload['release_id']}" if done else ""
        raise MovedError(f"{release_id} is not guarded, somebody went elsewhere meanwhile{told}")


def finish(warehouse: Path, release_id: str) -> Release:
    """Point at a published release as `publish` would have, had it not died between the rename and the log.

    A release that the log knows is left alone: readers may have been pointed elsewhere since. So is one that was
    overtaken: a later release of its contract was published.
    """
    with locked(warehouse / "releases" / ".lock"):
        _adopt(warehouse)
        release, log = named(warehouse, release_id), decision_log.entries(warehouse)
        published = [entry for entry in log if entry.kind == "publish"]
        is_logged = any(entry.payload["release_id"] == release_id for entry in published)
        own = [entry for entry in published if entry.payload["contract"] == release.manifest["contract"]]
        if not is_logged and all(entry.seq <= _sealed_after(release, log) for entry in own):
            _point(warehouse, release_id, "publish", release.manifest)
    return _get(warehouse, release_id)


def adopt(warehouse: Path) -> str | None:
    """Log the publication that died after the pointer named its release, if the last one did: readers have seen it.
    Returns the release's id, None if there is nothing to log."""
    with locked(warehouse / "releases" / ".lock"):
        return _adopt(warehouse)


def has_died(warehouse: Path, release: Release, log: Sequence[decision_log.Entry]) -> bool:
    """Whether the publication of `release`, which no entry points to, died before its entry was written.

    Otherwise the entry was lost: the log does not know the decision either, or is shorter than when the release was
    sealed, or the cycle, which remembers a publication after it was logged, does.
    """
    decided = any(entry.kind == "decision" and entry.decision_id == release.manifest["decision_id"] for entry in log)
    cycle = warehouse / "cycles" / release.manifest["contract"] / f"{release.manifest.get('cycle_date')}.json"
    run = read_json(cycle).get("run")
    is_remembered = isinstance(run, dict) and run.get("published_id") == release.release_id
    return decided and not is_remembered and _sealed_after(release, log) <= len(log)


def _adopt(warehouse: Path) -> str | None:
    """`adopt`; the caller holds the lock. One that was not pointed at stays as it is: a rerun of its night finishes it,
    or it is overtaken."""
    with contextlib.suppress(ReleaseError):  # damaged: for `heal`, which goes by the log
        log, here = decision_log.entries(warehouse), current(warehouse)
        is_unknown = here is not None and all(pointings.target(entry) != here.release_id for entry in log)
        if here is not None and is_unknown and has_died(warehouse, here, log) and damage(here) is None:
            _point(warehouse, here.release_id, "publish", here.manifest)
            return here.release_id
    return None


def last_pointed(warehouse: Path, contract: str) -> str | None:
    """Id of the contract's release that readers were pointed to last."""
    return pointings.last_of(decision_log.entries(warehouse), contract)


def current(warehouse: Path) -> Release | None:
    """The release the pointer names; None before the first."""
    release_id = _pointed(warehouse)
    return _get(warehouse, release_id) if release_id else None


def named(warehouse: Path, release_id: str) -> Release:
    """The published release `release_id`; ReleaseError if there is none."""
    found = {release.release_id: release for release in list_releases(warehouse)}
    if release_id not in found:
        raise ReleaseError(f"no release {release_id!r} (releases: {', '.join(found) or 'none'})")
    return found[release_id]


def list_releases(warehouse: Path) -> list[Release]:
    """All published releases, in the order in which they were published last; one whose manifest cannot be read does
    not count.

    The order is that of the log, which no clock can change.
    """
    found = []
    for path in _root(warehouse).glob("[!.]*/manifest.json"):
        with contextlib.suppress(ReleaseError):
            found.append(_get(warehouse, path.parent.name))
    try:
        log = decision_log.entries(warehouse)
    except decision_log.LogError:  # for whoever reads the log; the releases are still there
        log = []
    published = {entry.payload["release_id"]: entry.seq for entry in log if entry.kind == "publish"}

    def place(release: Release) -> tuple[float, str, str]:
        seq = published.get(release.release_id) or _sealed_after(release, log) + 0.5
        return seq, release.manifest["published_at"], release.release_id

    return sorted(found, key=place)


def _sealed_after(release: Release, log: Sequence[decision_log.Entry]) -> int:
    """How many entries the log had when the release was sealed; by the clock where its manifest does not say that."""
    known = release.manifest.get("log_entries")
    return known if isinstance(known, int) else sum(e.at <= release.manifest["published_at"] for e in log)


def rebuild_pointer(warehouse: Path) -> Release:
    """Write `current.json` and the symlink anew from the log, the authority on what readers were pointed to last.

    If that release is gone or damaged: the last whole one of its contract, then of any, that nobody took back. Raises
    ReleaseError if there is none.
    """
    with locked(warehouse / "releases" / ".lock"):
        _adopt(warehouse)
        release = _to_show(warehouse)
        _write_pointer(warehouse, release.release_id)
    return _get(warehouse, release.release_id)


def _to_show(warehouse: Path) -> Release:
    log = decision_log.entries(warehouse)
    last = pointings.last(log)
    if last is None:
        raise ReleaseError("the decision log names no published release: run the nightly")
    contract = next(e.payload["contract"] for e in reversed(log) if pointings.target(e) == last)
    others = [e.payload["contract"] for e in reversed(log) if e.kind in pointings.POINTING]
    for name in dict.fromkeys([contract, *others]):
        whole = whole_of(warehouse, log, name)
        if whole is not None:
            return whole
    raise ReleaseError(f"no release that the decision log names is whole, {last} neither: run the nightly")


def whole_of(warehouse: Path, log: Sequence[decision_log.Entry], contract: str) -> Release | None:
    """What readers can see of `contract`: the release that they were pointed to last, or if that is gone or damaged the
    last whole one that nobody took back. None if there is none."""
    known = {release.release_id: release for release in list_releases(warehouse)}
    names = [pointings.last_of(log, contract), *reversed(pointings.standing(log, contract))]
    found = (known[name] for name in dict.fromkeys(names) if name in known)
    return next((release for release in found if damage(release) is None), None)


def _root(warehouse: Path) -> Path:
    return warehouse / "releases"


def _building(warehouse: Path, release_id: str) -> Path:
    return _root(warehouse) / f".building-{release_id}"


def _get(warehouse: Path, release_id: str) -> Release:
    folder = _root(warehouse) / release_id
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        is_whole = _is_manifest(manifest)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        is_whole = False
    if not is_whole:
        raise ReleaseError(f"release {release_id} has no readable manifest in {folder}: roll back to another")
    if manifest["release_id"] != release_id:
        raise ReleaseError(f"release {release_id} has the manifest of {manifest['release_id']}: it is a copy of that")
    return Release(release_id, folder, manifest, release_id == _pointed(warehouse))


def _is_manifest(manifest: Any) -> bool:
    """Whether all is there that readers of a manifest rely on; what is of another shape altogether raises."""
    texts = [manifest[name] for name in (*SAME, "release_id", "published_at")]
    files = [(about["sha256"], about["bytes"]) for about in manifest["files"].values()]
    named = json.loads(manifest.get("datasets", "{}"))
    is_dated = "cycle_date" not in manifest or bool(dt.date.fromisoformat(manifest["cycle_date"]))
    return is_dated and isinstance(named, dict) and all(isinstance(text, str) for text in [*texts, *dict(files)])


def _pointed(warehouse: Path) -> str | None:
    try:
        found = json.loads((warehouse / "current.json").read_text())["release_id"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _refuse_failed(warehouse: Path, folder: Path, release_id: str, audits: Sequence[Audit]) -> None:
    """Put the build aside and raise AuditError if an audit failed; only the last refused build is kept."""
    failed = [audit for audit in audits if not audit.passed]
    if not failed:
        return
    for older in _root(warehouse).glob(".failed-*"):
        shutil.rmtree(older)
    write_json(folder / "audits.json", [asdict(audit) for audit in audits])
    os.rename(folder, _root(warehouse) / f".failed-{release_id}")
    listed = "; ".join(audit.sentence for audit in failed)
    raise AuditError(f"release {release_id} is not published, {len(failed)} of {len(audits)} audits failed: {listed}")


def keep_marts_only(folder: Path) -> None:
    """Drop what dbt leaves beside the marts: views and logs full of this machine's paths, and seeds. A release stands
    alone."""
    shutil.rmtree(folder / "dbt", ignore_errors=True)
    with duckdb.connect(str(folder / MART)) as connection:
        schemas = connection.execute(
            "select schema_name from duckdb_schemas() where database_name = current_database() and not internal"
            " and schema_name <> 'main'"
        ).fetchall()
        for (schema,) in schemas:
            connection.execute(f'drop schema "{schema}" cascade')
        connection.execute("checkpoint")


def _twin(warehouse: Path, manifest: dict[str, Any]) -> Release | None:
    """A whole published release that says the same."""
    for release in reversed(list_releases(warehouse)):
        if all(release.manifest[name] == manifest[name] for name in SAME) and not damage(release):
            return release
    return None


def _seal(folder: Path, manifest: dict[str, Any]) -> None:
    """Make every file read-only, write the manifest with their hashes last, and flush it all to the disk."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {}
    for path in paths:
        path.chmod(0o444)
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
    write_json(folder / "manifest.json", manifest | {"files": files, "published_at": now})
    (folder / "manifest.json").chmod(0o444)
    sync_tree(folder)


def damages(release: Release) -> Iterator[tuple[str, str]]:
    """Files that are not what the manifest says: their names, and what is wrong in words."""
    for name, entry in release.manifest["files"].items():
        path = release.folder / name
        if not path.is_file():
            yield name, f"{name} is missing"
        elif path.stat().st_size != entry["bytes"] or sha256_file(path) != entry["sha256"]:
            yield name, f"{name} was changed after publication"


def damage(release: Release) -> str | None:
    """The first of them in words; None if all files are whole."""
    return next((words for _, words in damages(release)), None)


def _point(warehouse: Path, release_id: str, kind: decision_log.Kind, manifest: dict[str, Any]) -> None:
    """Replace the pointer, then log it; a pointer that is there and logged already is left alone."""
    previous = pointings.last(decision_log.entries(warehouse))
    if previous == release_id == _pointed(warehouse):
        return
    _write_pointer(warehouse, release_id)
    kept = {name: manifest[name] for name in SAME} | {name: manifest[name] for name in SHOWN if name in manifest}
    decision_log.append(warehouse, kind, kept | {"release_id": release_id, "previous": previous})


def _write_pointer(warehouse: Path, release_id: str) -> None:
    path = f"releases/{release_id}"  # relative, so that a warehouse can be moved
    write_json(warehouse / "current.json", {"release_id": release_id, "path": path})
    sync(warehouse)
    try:
        point(warehouse / "current", warehouse / path)
    except OSError as error:  # readers go by current.json: what was pointed to must get into the log all the same
        logger.warning("fieldmart: %s stays where it points: %s", warehouse / "current", error)


def unreadable(warehouse: Path) -> list[str]:
    """Published folders whose manifest is missing, cannot be read or is of another release: they do not count as
    releases."""
    known = {release.release_id for release in list_releases(warehouse)}
    return sorted(path.name for path in _root(warehouse).glob("[!.]*") if path.name not in known)


def why_unreadable(warehouse: Path, name: str) -> str:
    """Why the folder `name` does not count as a release, in words."""
    told = read_json(_root(warehouse) / name / "manifest.json").get("release_id")
    if isinstance(told, str) and told != name:
        return f"manifest.json is that of {told}, of which this is a copy (move it out of releases/)"
    return "manifest.json is missing or damaged"


def set_aside(warehouse: Path, names: Sequence[str], folder: Path) -> None:
    """Move the releases `names` into `folder`; if the pointer names one of them, it goes."""
    with locked(warehouse / "releases" / ".lock"):
        folder.mkdir(parents=True, exist_ok=True)
        if _pointed(warehouse) in names:
            (warehouse / "current.json").unlink()
            (warehouse / "current").unlink(missing_ok=True)
        for name in names:
            os.rename(_root(warehouse) / name, folder / name)
        for path in (folder, _root(warehouse), warehouse):
            sync(path)


def retained(found: Sequence[Release], log: Sequence[decision_log.Entry], contract: str, keep: int) -> set[str]:
    """Ids of the contract's releases among `found` that stay: the last `keep` of those that stand, and of those that
    the guard left or somebody took back the last `keep`.

    However small `keep`, what there is to go back to stays: the current one, the last that stands beside it, and the
    last that another model served.
    """
    own = {release.release_id: release for release in found if release.manifest["contract"] == contract}
    stands = [name for name in pointings.standing(log, contract) if name in own]
    others = [name for name in own if name not in stands]
    stays = {*stands[-keep:], *others[-keep:], *(name for name, release in own.items() if release.is_current)}
    here = pointings.last_of(log, contract)
    served = own[here].manifest.get("serving_model_id") if here in own else None
    back = [name for name in stands if name != here]
    other = [name for name in back if own[name].manifest.get("serving_model_id") != served]
    return stays | {*back[-1:], *other[-1:]}


def _prune(warehouse: Path, contract: str, keep: int) -> None:
    """Remove what is not `retained` of `contract`; each vanishes in one rename."""
    for leftover in _root(warehouse).glob(".pruned-*"):
        shutil.rmtree(leftover)
    known = list_releases(warehouse)
    stays = retained(known, decision_log.entries(warehouse), contract, keep)
    for release in known:
        if release.manifest["contract"] == contract and release.release_id not in stays:
            gone = _root(warehouse) / f".pruned-{release.release_id}"
            os.rename(release.folder, gone)
            shutil.rmtree(gone)
