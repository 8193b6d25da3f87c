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
from jobs.lake import Dataset, Lake, LakeError
from jobs.models import read_card
from jobs.releases import Release

Key = tuple[str, str]  # name and key of a data set
# What a model's card names: the first scores, all of them train it again.
LEARNED_FROM = ("vocabulary", "rows", "examples", "snapshot")
# Of the cycle that a champion was promoted on: what names its rehearsal and its prior, and what they are read with.
# The rest is what it was judged by.
OF_CHAMPION = (
    *("models", "calibrators", "vocabulary", "label_rates"),
    *("model_metrics", "period_metrics", "k_comparison"),
)
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
    # What could not be read, a line each: more may be named than is known.
    unreadable: list[str] = field(default_factory=list)


def nights(warehouse: Path) -> list[Night]:
    """All cycles, the oldest first; one whose file cannot be read names nothing (`unreadable_cycles`)."""
    found = []
    for path in _cycle_files(warehouse):
        with contextlib.suppress(ValueError, FileNotFoundError):
            found.append(_read_night(path))
    return found


def unreadable_cycles(warehouse: Path) -> list[Path]:
    """Files of cycles that are damaged, or not named after a date."""
    known = {(night.contract, str(night.date)) for night in nights(warehouse)}
    return [path for path in _cycle_files(warehouse) if (path.parent.name, path.stem) not in known]


def _cycle_files(warehouse: Path) -> list[Path]:
    return sorted((warehouse / "cycles").glob("*/[!.]*.json"), key=lambda path: path.stem)


def _read_night(path: Path) -> Night:
    """ValueError if the file is no cycle's."""
    state, date = json.loads(path.read_text()), dt.date.fromisoformat(path.stem)
    if not isinstance(state, dict) or not isinstance(state.get("datasets"), dict):
        raise ValueError(f"{path} is no cycle's")
    if not all(isinstance(key, str) for key in state["datasets"].values()):
        raise ValueError(f"{path} names data sets by something else than keys")
    if not isinstance(state.get("run", {}), dict):
        raise ValueError(f"{path}: its run is no object")
    return Night(path.parent.name, date, state)


def links(warehouse: Path) -> Iterator[tuple[Path, Key]]:
    """The links of scores by date and of vectors, with the data set each points to."""
    for link in sorted([*warehouse.glob("scores/*/*"), *warehouse.glob("vectors/*")]):
        if link.is_symlink():
            run = Path(link.readlink())  # …/lake/<name>/<key>/<run>
            yield link, (run.parent.parent.name, run.parent.name)


def datasets_of(release: Release) -> set[Key]:
    return set(json.loads(release.manifest.get("datasets", "{}")).items())


def named(
    warehouse: Path,
    kept: Iterable[Night],
    releases: Iterable[Release],
    pointed: Iterable[Key],
    extra: Iterable[str],
    fallback: bool = True,
) -> Named:
    """What the cycles `kept`, the `releases`, the data sets of links `pointed` and the `extra` models need.

    A champion brings its candidate, the other models of the cycle that it was promoted on, and what it learned from:
    it can serve, be judged again and be trained again. With
    `fallback`, so does the one that would be champion if the guard demoted it.
    """
    lake, kept, releases = Lake(warehouse), list(kept), list(releases)
    log = decision_log.entries(warehouse)
    found = Named(set(pointed))
    whole: set[str] = set()  # models that must be trainable again
    for release in releases:
        found.datasets |= datasets_of(release)
    beside: set[str] = set()  # models that must be there
    of_log = sorted({e.payload["contract"] for e in log if e.kind == "decision"})
    best = [(contract, champions.promoted(log, contract)) for contract in of_log]
    best += [(contract, champions.fallback(log, contract)) for contract in of_log if fallback]
    best += [(night.contract, champions.promoted(log, night.contract, night.date)) for night in kept]
    for contract, champion in dict.fromkeys(best):
        if champion is not None:
            whole |= {champion.promotes, champion.model_id}
            born = _born(warehouse, contract, champion.cycle_date, found)
            found.datasets |= {(name, key) for name, key in born.items() if name in OF_CHAMPION}
            beside |= _models_of(lake, born, found)
    for night in kept:
        found.datasets |= set(night.state["datasets"].items())
        whole |= _models_of(lake, night.state["datasets"], found)
        whole |= {name for name in (night.state.get("run", {}).get("serving_model_id"),) if name}
    for release in releases:
        whole |= _models_of(lake, dict(datasets_of(release)), found)
    _add_models(warehouse, found, whole | beside | set(extra), whole)
    return found


def _born(warehouse: Path, contract: str, date: dt.date, found: Named) -> dict[str, str]:
    """The data sets of the cycle that a champion was promoted on."""
    path = warehouse / "cycles" / contract / f"{date}.json"
    try:
        return _read_night(path).state["datasets"]
    except (FileNotFoundError, ValueError):
        found.unreadable.append(f"{path}: is missing or cannot be read, a champion was promoted on it")
        return {}


def _models_of(lake: Lake, datasets: dict[str, str], found: Named) -> set[str]:
    """Ids in the data sets `models` and `scoring` of a cycle, whatever version wrote them."""
    ids: set[str] = set()
    for name in ("models", "scoring"):
        folder = lake.root / name / datasets.get(name, "")
        if name not in datasets or not folder.is_dir():  # gone altogether: that is for `verify`
            continue
        try:
            dataset = Dataset(name, datasets[name], folder, json.loads((folder / "manifest.json").read_text()))
            columns = [pq.read_table(path, columns=["model_id"])["model_id"] for path in dataset.files]
        except (OSError, ValueError, KeyError, TypeError):
            found.unreadable.append(f"data set {name} {datasets[name]}: is damaged, which models it names is not known")
            continue
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
        except LakeError as error:
            if (warehouse / "models" / model_id).is_dir():
                found.unreadable.append(str(error))
            continue
        lineage, task = card.get("lineage", {}), card.get("task", {})
        for link in LEARNED_FROM if model_id in whole else LEARNED_FROM[:1]:
            if isinstance(lineage.get(link), dict):
                found.datasets.add((SNAPSHOT if link == "snapshot" else link, lineage[link]["key"]))
        started = (task.get("init") or {}).get("model_id")
        todo |= {name for name in (started, task.get("candidate_id")) if name and name not in found.models}
