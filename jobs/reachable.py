"""What of a warehouse is named by what: cycles, releases, links and models name data sets; cycles, releases, the log
and other models name models. A backup takes what is named; the clean-up leaves what is named by what is kept.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from jobs import champions, decision_log
from jobs.lake import Lake, LakeError
from jobs.models import read_card
from jobs.releases import Release

Key = tuple[str, str]  # name and key of a data set
# What a model's card names: the first scores, all of them train it again.
LEARNED_FROM = ("vocabulary", "rows", "examples", "snapshot")
# Of the cycle that a champion was promoted on: what names its rehearsal and its prior, and what they are read with.
OF_CHAMPION = ("models", "calibrators", "vocabulary", "label_rates")
SNAPSHOT = "exposures"  # the data set that a card calls its snapshot


@dataclass(frozen=True)
class Night:
    """One cycle and what it remembers."""

    contract: str
    date: dt.date
    state: dict[str, Any]


@dataclass
class Named:
    """What may not be removed without something losing what it names."""

    datasets: set[Key] = field(default_factory=set)
    models: set[str] = field(default_factory=set)


def nights(warehouse: Path) -> list[Night]:
    """All cycles, the oldest first; one whose file cannot be read names nothing."""
    found = []
    for path in sorted((warehouse / "cycles").glob("*/[!.]*.json"), key=lambda path: path.stem):
        with contextlib.suppress(ValueError):
            found.append(Night(path.parent.name, dt.date.fromisoformat(path.stem), json.loads(path.read_text())))
    return found


def links(warehouse: Path) -> Iterator[tuple[Path, Key]]:
    """The links of scores by date and of vectors, with the data set each points to."""
    for link in sorted([*warehouse.glob("scores/*/*"), *warehouse.glob("vectors/*")]):
        if link.is_symlink():
            run = Path(link.readlink())  # …/lake/<name>/<key>/<run>
            yield link, (run.parent.parent.name, run.parent.name)


def datasets_of(release: Release) -> set[Key]:
    return set(json.loads(release.manifest.get("datasets", "{}")).items())


def named(
    warehouse: Path, kept: Iterable[Night], releases: Iterable[Release], pointed: Iterable[Key], extra: Iterable[str]
) -> Named:
    """What the cycles `kept`, the `releases`, the data sets of links `pointed` and the `extra` models need.

    A champion brings its candidate, the other models of the cycle that it was promoted on, and what it learned from:
    it can serve, be judged again and be trained again.
    """
    lake, kept, releases = Lake(warehouse), list(kept), list(releases)
    log = decision_log.entries(warehouse)
    found = Named(set(pointed))
    whole: set[str] = set()  # models that must be trainable again
    for release in releases:
        found.datasets |= datasets_of(release)
    beside: set[str] = set()  # models that must be there
    of_log = {(e.payload["contract"], None) for e in log if e.kind == "decision"}
    for contract, date in sorted(of_log, key=str) + [(night.contract, night.date) for night in kept]:
        champion = champions.promoted(log, contract, date)
        if champion is not None:
            whole |= {champion.promotes, champion.model_id}
            born = _night(warehouse, contract, champion.cycle_date).state["datasets"]
            found.datasets |= {(name, key) for name, key in born.items() if name in OF_CHAMPION}
            beside |= _models_of(lake, born)
    for night in kept:
        found.datasets |= set(night.state["datasets"].items())
        whole |= _models_of(lake, night.state["datasets"])
        whole |= {name for name in (night.state.get("run", {}).get("serving_model_id"),) if name}
    for release in releases:
        whole |= _models_of(lake, json.loads(release.manifest.get("datasets", "{}")))
    _add_models(warehouse, found, whole | beside | set(extra), whole)
    return found


def _night(warehouse: Path, contract: str, date: dt.date) -> Night:
    path = warehouse / "cycles" / contract / f"{date}.json"
    try:
        return Night(contract, date, json.loads(path.read_text()))
    except (OSError, ValueError):
        return Night(contract, date, {"datasets": {}, "run": {}})


def _models_of(lake: Lake, datasets: dict[str, str]) -> set[str]:
    """Ids in the data sets `models` and `scoring` of a cycle."""
    ids: set[str] = set()
    for name in ("models", "scoring"):
        dataset = lake.find(name, datasets[name]) if name in datasets else None
        if dataset is not None:
            with contextlib.suppress(OSError, ValueError):  # damaged: what it named is named by the cards as well
                columns = [pq.read_table(path, columns=["model_id"])["model_id"] for path in dataset.files]
                ids |= {value for column in columns for value in column.to_pylist() if value}
    return ids


def _add_models(warehouse: Path, found: Named, todo: set[str], whole: set[str]) -> None:
    """Add `todo`, the models they were started from, and what they learned from: all of it of the `whole` ones."""
    todo = set(todo)
    while todo:
        model_id = todo.pop()
        if model_id in found.models:
            continue
        found.models.add(model_id)
        try:
            card = read_card(warehouse, model_id)
        except LakeError:
            continue
        lineage, task = card.get("lineage", {}), card.get("task", {})
        for link in LEARNED_FROM if model_id in whole else LEARNED_FROM[:1]:
            if isinstance(lineage.get(link), dict):
                found.datasets.add((SNAPSHOT if link == "snapshot" else link, lineage[link]["key"]))
        started = (task.get("init") or {}).get("model_id")
        todo |= {name for name in (started, task.get("candidate_id")) if name and name not in found.models}
