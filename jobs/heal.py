"""Job: make anew what follows from the decision log: aliases, pointer, links of scores and vectors, registry.

Run it as often as you like, while no night runs: what is right stays as it is. It never points at a release that the
guard left.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
from pathlib import Path

from jobs import (
    champions,
    decision_log,
    night_lock,
    pointings,
    registry,
    releases,
    score_tree,
    served_links,
    verification,
)
from jobs.durable import unpoint
from jobs.lake import read_json, write_json

ASIDE = "set_aside"  # in the warehouse; nothing reads it


def run(warehouse: Path, accept_loss: bool = False) -> list[str]:
    """Rebuild all of it; returns what was changed and what cannot be, a line each.

    Raises LogError if the log itself does not hold, or entries of it were lost: it comes from a backup. Where no backup
    has them, `accept_loss` sets aside what the log does not know, and says so in the log; NightError if somebody works
    on the warehouse.
    """
    if accept_loss:
        accepted = _accept_loss(warehouse)
        return [*accepted, *run(warehouse)]
    verification.refuse_lost_log(warehouse)
    adopted = releases.adopt(warehouse)
    log = decision_log.entries(warehouse)
    said = [f"release {adopted}: readers see it, its publication died before its entry: logged now"] if adopted else []
    said += [*_aliases(warehouse), *_pointer(warehouse, log), *_links(warehouse, log), *_registry(warehouse)]
    said += [
        f"release {name}: {releases.why_unreadable(warehouse, name)}: it does not count"
        for name in releases.unreadable(warehouse)
    ]
    return said or ["nothing to heal: aliases, pointer, links and registry are those of the log"]


def _accept_loss(warehouse: Path) -> list[str]:
    """Log what the log does not know any more, then set aside releases and what cycles remember of their runs. Killed
    in between, the next acceptance names and sets aside the rest."""
    with night_lock.alone(warehouse):
        lost = verification.unknown(warehouse)
        if not lost.faults:
            return ["no entry of the log is known to be lost: nothing to accept"]
        aside = warehouse / ASIDE / f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S%f}"
        cycles = [" ".join(cycle) for cycle in lost.cycles]
        said = {"releases": lost.releases, "cycles": cycles, "decisions": sorted(set(lost.decisions))}
        decision_log.append(warehouse, "loss", said | {"set_aside": str(aside.relative_to(warehouse))})
        with contextlib.suppress(releases.ReleaseError):  # the log names none that is whole: there is no current one
            releases.rebuild_pointer(warehouse)
        _unlink_scores(warehouse, lost.releases)
        releases.set_aside(warehouse, lost.releases, aside / "releases")
        for contract, date in lost.cycles:
            path = warehouse / "cycles" / contract / f"{date}.json"
            kept = aside / path.relative_to(warehouse)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, kept)
            write_json(path, read_json(path) | {"run": {}})  # its data sets are still there: the night can run again
        champions.write_aliases(warehouse)
    return [
        *lost.faults,
        *(f"release {name}: set aside in {aside.relative_to(warehouse)}" for name in lost.releases),
        *(f"cycle {name}: as if it had not run; a copy is in {aside.relative_to(warehouse)}" for name in cycles),
    ]


def _unlink_scores(warehouse: Path, lost: list[str]) -> None:
    """Remove the links of dates that only lost releases were made for: nothing says what is to be seen there."""
    known = [(release.release_id in lost, release.manifest) for release in releases.list_releases(warehouse)]
    dates = [(is_lost, said["contract"], said["cycle_date"]) for is_lost, said in known if "cycle_date" in said]
    for _, contract, date in (one for one in dates if one[0] and (False, *one[1:]) not in dates):
        unpoint(score_tree.root(warehouse, contract) / f"{score_tree.COLUMN}={date}")


def _aliases(warehouse: Path) -> list[str]:
    before, path = read_json(champions.aliases_path(warehouse)), champions.aliases_path(warehouse)
    if before == champions.aliases(decision_log.entries(warehouse)):
        return []
    champions.write_aliases(warehouse)
    return [f"{path.relative_to(warehouse)}: written anew"]


def _pointer(warehouse: Path, log: list[decision_log.Entry]) -> list[str]:
    last = pointings.last(log)
    if last is None:
        return []
    before = _pointing(warehouse)
    try:
        release = releases.rebuild_pointer(warehouse)
    except releases.ReleaseError as error:
        return [str(error)]
    after, said = _pointing(warehouse), []
    if before != after:
        said = [f"current.json and current: {before[0] or 'nothing'} -> {release.release_id}"]
    if release.release_id != last:
        said.append(
            f"the log points to {last}, which is missing or damaged: {release.release_id} is shown instead"
            " (a backup or the next night brings a better one)"
        )
    return said


def _pointing(warehouse: Path) -> tuple[str | None, str | None, str | None]:
    """What pointer and symlink say."""
    told, link = read_json(warehouse / "current.json"), warehouse / "current"
    return told.get("release_id"), told.get("path"), os.readlink(link) if link.is_symlink() else None


def _links(warehouse: Path, log: list[decision_log.Entry]) -> list[str]:
    """The links of every contract that published: those of the release that readers see of it."""
    said = []
    for contract in sorted({e.payload["contract"] for e in log if e.kind in pointings.POINTING}):
        whole = releases.whole_of(warehouse, log, contract)
        if whole is None:
            said.append(f"links of {contract}: no whole release is left to lead to")
            continue
        before = _targets(warehouse, contract)
        said += served_links.follow(warehouse, whole)
        after = _targets(warehouse, contract)
        said += [
            f"{name}: {before.get(name) or 'nothing'} -> {target}"
            for name, target in after.items()
            if before.get(name) != target
        ]
    return said


def _targets(warehouse: Path, contract: str) -> dict[str, str]:
    links = [*score_tree.root(warehouse, contract).glob("*"), warehouse / "vectors" / contract]
    return {str(link.relative_to(warehouse)): os.readlink(link) for link in sorted(links) if link.is_symlink()}


def _registry(warehouse: Path) -> list[str]:
    """Bring it up to date; one that cannot be read is put aside and made again."""
    path, said = registry.path_of(warehouse), []
    if path.is_file() and not registry.is_whole(path):
        path.replace(path.with_suffix(".damaged"))
        said = [f"{path.relative_to(warehouse)}: damaged, put aside as {path.with_suffix('.damaged').name}"]
    if not path.is_file() and not any((warehouse / "models").glob("*/card.json")):
        return said  # nothing to register yet
    done = registry.sync(warehouse, check=True)
    return said + ([done.line] if done.changed else [])
