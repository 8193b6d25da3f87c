"""The links by which readers find full scores and vectors, made to follow the release that is pointed to.

A release names its data sets in its manifest; the links `scores/<contract>/score_date=<D>` and `vectors/<contract>` lie
outside it, so whoever moves the pointer moves them as well. Of each date that a release was made for, the tree shows
what stands: the scores of the last release up to that date that was not taken back. So its latest date always shows
what the current release shows, as it does where stale scores are served.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Generator
from pathlib import Path

from jobs import decision_log, pointings, releases, score_tree, vectors
from jobs.durable import locked
from jobs.lake import Dataset, Lake, read_json


def follow_log(warehouse: Path, contract: str) -> list[str]:
    """`follow` the contract's release that readers were pointed to last, while nobody points elsewhere: of two who move
    the pointer at once, the one who comes second here finds what both left. Nothing if that release is gone."""
    with moving(warehouse):
        last = releases.last_pointed(warehouse, contract)
        known = {release.release_id: release for release in releases.list_releases(warehouse)}
        return follow(warehouse, known[last]) if last in known else []


def moving(warehouse: Path) -> contextlib.AbstractContextManager[None]:
    """Nobody points elsewhere meanwhile: what the log says last holds until the links are moved."""
    return locked(warehouse / "releases" / ".lock")


def misplaced(warehouse: Path, contract: str) -> list[tuple[Path, str]]:
    """The links of scores that show another data set than what stands for their date, and the key of what stands.

    A date whose scores are gone from the lake, or whose release is damaged, is left out: its link may lead elsewhere.
    """
    lake, found = Lake(warehouse), []
    shown = {dated.date: dated for dated in score_tree.listing(warehouse, contract)}
    for date, release in standing(warehouse, contract).items():
        key = json.loads(release.manifest["datasets"]).get("scores")
        link = shown.get(date)
        if link is None or key is None or link.key in (key, _published_again(warehouse, release)):
            continue
        if lake.find("scores", key) is not None and releases.damage(release) is None:
            found.append((link.link, key))
    return found


def _published_again(warehouse: Path, release: releases.Release) -> str | None:
    """The scores of the cycle whose publication said the same as `release` and was dropped for it: the cycle's links
    lead to its own data sets."""
    cycle = read_json(warehouse / "cycles" / release.manifest["contract"] / f"{release.manifest['cycle_date']}.json")
    run, datasets = cycle.get("run"), cycle.get("datasets")
    if not (isinstance(run, dict) and isinstance(datasets, dict)):  # damaged, or of nothing published yet
        return None
    return datasets.get("scores") if run.get("published_id") == release.release_id else None


def follow(warehouse: Path, release: releases.Release) -> list[str]:
    """Point the links at the data sets of `release`, and those of dates whose release was taken back at what stands;
    returns what could not be moved and why, a line each."""
    manifest = release.manifest
    if "datasets" not in manifest or "cycle_date" not in manifest:
        return [f"release {release.release_id} does not name its data sets: scores and vectors stay where they point"]
    contract, own = manifest["contract"], _date(release)
    said = point(warehouse, contract, own, json.loads(manifest["datasets"]))
    lake = Lake(warehouse)
    for date, shown in standing(warehouse, contract).items():
        key = json.loads(shown.manifest["datasets"]).get("scores")
        scores = lake.find("scores", key) if key and date != own else None
        if scores is not None:
            said += _point_scores(warehouse, contract, date, scores)
    return said


def _point_scores(warehouse: Path, contract: str, date: dt.date, scores: Dataset) -> list[str]:
    with _telling(f"scores of {contract} {date}") as said:
        score_tree.point(warehouse, contract, date, scores)
    return said


@contextlib.contextmanager
def _telling(link: str) -> Generator[list[str]]:
    """Move a link; what the file system has against it is a line: the pointer moved already, other links may as
    well."""
    said: list[str] = []
    try:
        yield said
    except OSError as error:
        said.append(f"the link to {link} stays as it is: {error}")


def standing(warehouse: Path, contract: str) -> dict[dt.date, releases.Release]:
    """By date that a release of the contract was made for: the release whose scores stand for it. Dates of releases
    that are removed are not known any more."""
    listed = [r for r in releases.list_releases(warehouse) if r.manifest["contract"] == contract]
    known = {r.release_id: r for r in listed if "datasets" in r.manifest and "cycle_date" in r.manifest}
    names = pointings.standing(decision_log.entries(warehouse), contract)
    stands = sorted((known[name] for name in names if name in known), key=_date)  # stable: of a date the last pointed
    found = {}
    for date in sorted({_date(release) for release in known.values()}):
        until = [release for release in stands if _date(release) <= date]
        if until:
            found[date] = until[-1]
    return found


def _date(release: releases.Release) -> dt.date:
    return dt.date.fromisoformat(release.manifest["cycle_date"])


def point(warehouse: Path, contract: str, date: dt.date, datasets: dict[str, str]) -> list[str]:
    """Point the scores of `date` and the contract's vectors at `datasets` (name -> key).

    A link whose data set is gone, or that cannot be moved, stays as it is. Returns a line for each of these.
    """
    lake, said = Lake(warehouse), []

    def found(name: str) -> Dataset | None:
        dataset = lake.find(name, datasets[name]) if name in datasets else None
        if dataset is None and name in datasets:
            said.append(f"{name} {datasets[name]} of {contract} {date} is gone from the lake: its link stays as it is")
        return dataset

    scores, scoring, own = found("scores"), found("scoring"), found("vectors")
    if scores is not None:
        said += _point_scores(warehouse, contract, date, scores)
    if scoring is not None:
        [row] = scoring.table().to_pylist()
        is_lost, made = own is None and "vectors" in datasets, [own, *_others(warehouse, contract, lake)]
        with _telling(f"vectors of {contract}") as told:
            vectors.point(warehouse, contract, row, made, keep=is_lost)
        said += told
    return said


def _others(warehouse: Path, contract: str, lake: Lake) -> list[Dataset | None]:
    """Vectors of all releases of the contract, the newest first: stale scores have those of an earlier night."""
    listed = [release.manifest for release in reversed(releases.list_releases(warehouse))]
    keys = [json.loads(m.get("datasets", "{}")).get("vectors") for m in listed if m["contract"] == contract]
    return [lake.find("vectors", key) for key in keys if key]
