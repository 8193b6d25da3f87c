"""Job: make anew what follows from the decision log: aliases, pointer, links of scores and vectors, registry.

Run it as often as you like, while no night runs: what is right stays as it is. It never points at a release that the
guard left.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from jobs import champions, decision_log, pointings, registry, releases, score_tree, served_links, verification
from jobs.lake import read_json


def run(warehouse: Path) -> list[str]:
    """Rebuild all of it; returns what was changed and what cannot be, a line each.

    Raises LogError if the log itself does not hold, or entries of it were lost: it comes from a backup.
    """
    verification.refuse_lost_log(warehouse)
    log = decision_log.entries(warehouse)
    said = [*_aliases(warehouse), *_pointer(warehouse, log), *_links(warehouse, log), *_registry(warehouse)]
    said += [
        f"release {name}: manifest.json is missing or damaged: it does not count, a backup may bring it back"
        for name in releases.unreadable(warehouse)
    ]
    return said or ["nothing to heal: aliases, pointer, links and registry are those of the log"]


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
    known = {release.release_id: release for release in releases.list_releases(warehouse)}
    for contract in sorted({e.payload["contract"] for e in log if e.kind in pointings.POINTING}):
        stands = [known[name] for name in pointings.standing(log, contract) if name in known]
        whole = next((release for release in reversed(stands) if releases.damage(release) is None), None)
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
    if path.is_file() and not _is_whole(path):
        path.replace(path.with_suffix(".damaged"))
        said = [f"{path.relative_to(warehouse)}: damaged, put aside as {path.with_suffix('.damaged').name}"]
    if not path.is_file() and not any((warehouse / "models").glob("*/card.json")):
        return said  # nothing to register yet
    done = registry.sync(warehouse, check=True)
    return said + ([done.line] if done.changed else [])


def _is_whole(path: Path) -> bool:
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return connection.execute("pragma quick_check").fetchone() == ("ok",)
    except sqlite3.Error:
        return False
