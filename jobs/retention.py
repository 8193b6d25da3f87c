"""`fieldmart gc`: what nothing that is kept needs goes, by the rules of conf/retention.yml.

What goes is worked out once, as a list; a dry run prints it and the real run removes exactly it. Each item vanishes in
one rename to `.gone/`, where nothing looks, and is then deleted: a kill in between leaves something whole, or something
that the next run sweeps.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from jobs import decision_log, durable, facts, operations_log, pointings, reachable, releases, verification
from jobs.lake import LakeError
from jobs.policies import Policy, read_policy
from jobs.reachable import Key, Night
from jobs.releases import Release

GONE = ".gone"
SNAPSHOT = ("exposures", "purchases", "members", "entity_list", "offer_list", "vocabulary")
# Facts with a row per pair: full scores are kept by date, top scores are in the mart.
LARGE = ("scores", "top_scores")

Count = Annotated[int, Field(strict=True, ge=1)]
Days = Annotated[int, Field(strict=True, ge=0)]
Say = Callable[[str], None]


class Retention(Policy):
    """How much is kept; units are in the names, what has none is counted in pieces per contract."""

    releases: Annotated[int, Field(strict=True, ge=1, le=releases.KEEP)]
    cycles: Count
    snapshots: Count
    scores_days: Days
    facts_days: Days
    builds_days: Days
    work_days: Days
    unnamed_days: Days


@dataclass(frozen=True)
class Item:
    """One thing that goes. `age_days` since it was written; `why` in words."""

    kind: str  # release | data set | model | link | build | work
    name: str
    path: Path
    bytes: int
    age_days: float
    why: str


def load(path: Path) -> Retention:
    return read_policy(path, Retention)


def plan(warehouse: Path, rules: Retention, now: dt.datetime | None = None) -> list[Item]:
    """What goes, the largest first; reads only.

    Raises LogError if entries of the log were lost, LakeError if something that names others cannot be read: what it
    names would go.
    """
    verification.refuse_lost_log(warehouse)
    warehouse, now = warehouse.resolve(), now or dt.datetime.now(dt.UTC)
    nights, known = reachable.nights(warehouse), releases.list_releases(warehouse)
    kept_releases = _newest_releases(warehouse, known, rules.releases)
    links = list(reachable.links(warehouse))
    old_links = [link for link in links if _is_old(link[0], rules.scores_days, links, now)]
    whole = _newest(nights, rules.cycles)
    pointed = [key for link, key in links if (link, key) not in old_links]
    named = reachable.named(warehouse, whole, kept_releases, pointed, ())
    _refuse_unreadable(warehouse, named)
    named.datasets |= _partly(nights, rules, now)
    expired = [release for release in known if release not in kept_releases]
    items = [
        *(_item(now, "release", r.release_id, r.folder, "older than those kept") for r in expired),
        *(_item(now, "link", link.name, link, f"older than {rules.scores_days} days") for link, _ in old_links),
        *_datasets(warehouse, named.datasets, _mentioned(nights, known), rules, now),
        *_models(warehouse, named.models, rules, now),
        *_builds(warehouse, {night.state.get("run", {}).get("release_id") for night in whole}, rules, now),
        *_work(warehouse, rules, now),
    ]
    return sorted(items, key=lambda item: (-item.bytes, item.kind, item.name))


def remove(warehouse: Path, items: list[Item], say: Say = lambda _: None) -> int:
    """Remove `items`; returns the bytes freed. The caller holds the warehouse alone (jobs/night_lock.py).

    A rollback or the guard does not wait for that: if readers were pointed at one of the releases since it was planned,
    it stays, and all that it needs.
    """
    started, warehouse = time.perf_counter(), warehouse.resolve()
    gone = warehouse / GONE
    gone.mkdir(exist_ok=True)
    freed = 0

    def take(chosen: list[Item]) -> None:
        nonlocal freed
        for item in chosen:
            target = gone / uuid.uuid4().hex
            os.rename(item.path, target)
            durable.sync(item.path.parent)
            _delete(target)
            freed += item.bytes
            say(f"{item.kind} {item.name}")

    # Links and releases first: what they name is still there while they are.
    with durable.locked(warehouse / "releases" / ".lock"):
        items = _not_shown(warehouse, items)
        take([item for item in items if item.kind in ("link", "release")])
    take([item for item in items if item.kind not in ("link", "release")])
    for left in gone.iterdir():  # of a run that was killed
        _delete(left)
    gone.rmdir()
    said = f"{len(items)} items"
    seconds = time.perf_counter() - started
    operations_log.append(warehouse, "gc", ok=True, seconds=seconds, bytes=freed, detail=said)
    return freed


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _refuse_unreadable(warehouse: Path, named: reachable.Named) -> None:
    damaged = [f"{path}: is no cycle that can be read" for path in reachable.unreadable_cycles(warehouse)]
    damaged += [
        f"release {name}: {releases.why_unreadable(warehouse, name)}" for name in releases.unreadable(warehouse)
    ]
    damaged += named.unreadable
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise LakeError(f"{damaged[0]}{more}: nothing is removed, for what it names is not known; bring it back first")


def _not_shown(warehouse: Path, items: list[Item]) -> list[Item]:
    """`items` without the releases among them that readers were pointed at meanwhile, and without what these need."""
    log, planned = decision_log.entries(warehouse), {item.name for item in items if item.kind == "release"}
    known = releases.list_releases(warehouse)
    last = {pointings.last_of(log, contract) for contract in {release.manifest["contract"] for release in known}}
    shown = [r for r in known if r.release_id in planned and (r.is_current or r.release_id in last)]
    if not shown:
        return items
    needs = reachable.named(warehouse, (), shown, (), ())
    stays = {("data set", f"{name} {key}") for name, key in needs.datasets} | {("model", name) for name in needs.models}
    stays |= {("release", release.release_id) for release in shown}
    stays |= {("link", item.name) for item in items if item.kind == "link"}  # they lead to its scores now
    return [item for item in items if (item.kind, item.name) not in stays]


def _newest_releases(warehouse: Path, known: list[Release], keep: int) -> list[Release]:
    log, stays = decision_log.entries(warehouse), set()
    for contract in {release.manifest["contract"] for release in known}:
        stays |= releases.retained(known, log, contract, keep)
    return [release for release in known if release.release_id in stays]


def _newest(nights: list[Night], keep: int) -> list[Night]:
    """The last `keep` cycles of each contract."""
    by_contract: dict[str, list[Night]] = defaultdict(list)
    for night in nights:
        by_contract[night.contract].append(night)
    return [night for found in by_contract.values() for night in found[-keep:]]


def _partly(nights: list[Night], rules: Retention, now: dt.datetime) -> set[Key]:
    """Data sets of cycles that are not kept whole: their snapshot, and the small facts that later marts show."""
    found = {
        (name, night.state["datasets"][name])
        for night in _newest(nights, rules.snapshots)
        for name in SNAPSHOT
        if name in night.state["datasets"]
    }
    first = now.date() - dt.timedelta(days=rules.facts_days)
    last = {night.contract: night.date for night in nights}
    for night in nights:
        # By the calendar of the data: a year that ended long ago can still be run today.
        if night.date >= first or (last[night.contract] - night.date).days <= rules.facts_days:
            own = night.state["datasets"].items()
            found |= {(name, key) for name, key in own if name in facts.FACTS and name not in LARGE}
    return found


def _mentioned(nights: list[Night], known: list[Release]) -> set[Key]:
    """Data sets that anything names, kept or not."""
    found = {pair for night in nights for pair in night.state["datasets"].items()}
    return found.union(*(reachable.datasets_of(release) for release in known))


def _is_old(path: Path, days: int, links: list[tuple[Path, Key]], now: dt.datetime) -> bool:
    """Whether the scores of a date are older than `days`, counted from the last date of the tree or from today."""
    if path.parent.parent.name != "scores":
        return False
    dates = {other: _date(other) for other, _ in links if other.parent == path.parent}
    own, last = dates[path], max((date for date in dates.values() if date), default=None)
    return own is not None and own != last and (min(last or own, now.date()) - own).days > days


def _date(link: Path) -> dt.date | None:
    try:
        return dt.date.fromisoformat(link.name.rpartition("=")[2])
    except ValueError:
        return None


def _datasets(
    warehouse: Path, needed: set[Key], mentioned: set[Key], rules: Retention, now: dt.datetime
) -> Iterator[Item]:
    for folder in sorted((warehouse / "lake").glob("[!.]*/[!.]*/")):
        name, key = folder.parent.name, folder.name
        if (name, key) in needed:
            yield from _other_runs(folder, rules, now)
            continue
        is_named = (name, key) in mentioned
        why = "of a cycle or release that is not kept" if is_named else "nothing names it"
        item = _item(now, "data set", f"{name} {key}", folder, why)
        if is_named or item.age_days >= rules.unnamed_days:
            yield item


def _other_runs(folder: Path, rules: Retention, now: dt.datetime) -> Iterator[Item]:
    """What dead writers left beside the run that the manifest of a needed data set names."""
    try:
        run = json.loads((folder / "manifest.json").read_text())["run"]
    except (OSError, ValueError, KeyError):
        run = None
    for other in sorted(folder.glob("[!.]*/")):
        item = _item(now, "work", f"{folder.parent.name} {folder.name}/{other.name}", other, "a write that died")
        if other.name != run and item.age_days >= rules.work_days:
            yield item


def _models(warehouse: Path, needed: set[str], rules: Retention, now: dt.datetime) -> Iterator[Item]:
    for folder in sorted((warehouse / "models").glob("[!.]*/")):
        item = _item(now, "model", folder.name, folder, "of a cycle that is not kept")
        if folder.name not in needed and item.age_days >= rules.unnamed_days:
            yield item


def _builds(warehouse: Path, awaited: set[str | None], rules: Retention, now: dt.datetime) -> Iterator[Item]:
    for folder in sorted((warehouse / "releases").glob(".*/")):
        kind, _, name = folder.name.removeprefix(".").partition("-")
        item = _item(now, "build", folder.name, folder, f"{kind}, older than {rules.builds_days} days")
        if item.age_days >= rules.builds_days and not (kind == "building" and name in awaited):
            yield item


def _work(warehouse: Path, rules: Retention, now: dt.datetime) -> Iterator[Item]:
    found = [path for top in ("work", "mixing", "heartbeats") for path in (warehouse / top).glob("*")]
    for path in sorted([*found, *warehouse.glob(".reproduce-*")]):
        item = _item(now, "work", path.relative_to(warehouse).as_posix(), path, "left by a step that died")
        if item.age_days >= rules.work_days:
            yield item


def _item(now: dt.datetime, kind: str, name: str, path: Path, why: str) -> Item:
    """With the bytes of all files below and the age of the newest of them."""
    files = [path] if path.is_symlink() or not path.is_dir() else [path, *path.rglob("*")]
    about = [file.lstat() for file in files]
    size = sum(stat.st_size for file, stat in zip(files, about, strict=True) if file.is_file() or file.is_symlink())
    newest = max(stat.st_mtime for stat in about)
    return Item(kind, name, path, size, max((now.timestamp() - newest) / 86_400, 0.0), why)
