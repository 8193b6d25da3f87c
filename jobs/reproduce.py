"""Trains a model once more from what its card says and compares: `fieldmart reproduce <model_id>`.

A model is reproduced if its files have the same bits. They must, where code, lock, Python and processor are the same
and it was trained by the sweep. Otherwise it is enough that the losses agree within TOLERANCE, and the table says what
was different.
"""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from ffm_udf import card as cards
from ffm_udf import scoring, workers
from ffm_udf.metrics import row_logloss
from ffm_udf.row_store import RowStore
from ffm_udf.scorer import class_of
from jobs import mixing, models
from jobs.lake import Dataset, Lake, LakeError, sha256_json
from jobs.lineage import environment

TOLERANCE = 1e-3  # relative, of a logloss: twice what another seed changes
SAMPLE = 200_000  # rows at most on which both models are compared

# What a card must say for its model to be trained again, and for a difference to be explained.
LINKS = (
    *("git_sha", "code_sha", "training_code_sha", "lock_sha", "python", "spark", "machine", "cores"),
    *("contract", "contract_sha", "features_sha", "cycle_date", "snapshot", "examples", "rows", "vocabulary"),
)
# These decide the bits of a model; the commit and the code of other steps do not.
DECISIVE = ("training_code_sha", "lock_sha", "python", "machine")
# What is measured, and so differs in two equal trainings; the checksums are those of the files compared themselves.
MEASURED = ("seconds", "rows_per_s", "compile_seconds", "sha256")


@dataclass(frozen=True)
class Compared:
    """One thing then and now."""

    what: str
    then: str
    now: str

    @property
    def same(self) -> bool:
        return self.then == self.now


@dataclass(frozen=True)
class Reproduction:
    """What came out of training a model again: `links` of code and machine, `files`, and relative differences of
    `losses` (name -> difference)."""

    model_id: str
    way: str
    links: list[Compared]
    files: list[Compared]
    losses: dict[str, float]

    @property
    def identical(self) -> bool:
        """Every file has the same bits, but for what is measured."""
        return all(file.same for file in self.files)

    @property
    def must_be_identical(self) -> bool:
        return self.way == "sweep" and all(link.same for link in self.links if link.what in DECISIVE)

    @property
    def reproduced(self) -> bool:
        near = all(abs(difference) <= TOLERANCE for difference in self.losses.values())
        return self.identical or (near and not self.must_be_identical)


def missing_links(card: dict[str, Any]) -> list[str]:
    """What a model's card does not say of its origin; a seed is only asked of algorithms that take one."""
    lineage, task = card.get("lineage", {}), card.get("task", {})
    found = [link for link in LINKS if lineage.get(link) in (None, "")]
    found += [part for part in ("hyperparameters", "train", "rows_key", "n_features") if part not in task]
    takes_seed = "seed" in inspect.signature(class_of(card["algorithm"])).parameters
    return [*found, "seed"] if takes_seed and "seed" not in task.get("hyperparameters", {}) else found


def run(warehouse: Path, model_id: str, spark: Callable[[], SparkSession]) -> Reproduction:
    """Train model `model_id` again in a temporary folder and compare it with the one that is there, which stays.

    `spark` gives a session; it is called for models trained by mixing only. Raises LakeError if the model or what it
    was made from is no longer there, or was changed.
    """
    card, folder = _whole(warehouse, model_id), models.model_folder(warehouse, model_id)
    if missing := missing_links(card):
        raise LakeError(f"model {model_id} cannot be trained again: its card lacks {', '.join(missing)}")
    with tempfile.TemporaryDirectory(dir=warehouse, prefix=".reproduce-") as temporary:
        task = task_of(warehouse, card, Path(temporary).resolve() / model_id)
        again = _train(task, Path(temporary), spark)
        made = Path(task["folder"])
        losses = curve_differences(card["curve"], again["curve"])
        losses |= {"logloss of the same rows": sample_difference(task, folder, made)}
        return Reproduction(model_id, task["strategy"]["way"], links(card), files(card, folder, again, made), losses)


def task_of(warehouse: Path, card: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The card's training task with today's paths: a warehouse may have moved, its data sets keep their keys."""
    lake, lineage, task = Lake(warehouse), card["lineage"], card["task"]
    rows = _intact(lake, "rows", lineage["rows"], card)
    task = task | {
        "folder": str(folder),
        "rows": str(rows.root),
        "fields": card["fields"],
        "lineage": lineage,
    }
    if task["ordered"]:
        vocabulary = _intact(lake, "vocabulary", lineage["vocabulary"], card).only_file
        task["ordered"] = task["ordered"] | {"vocabulary": vocabulary}
    if task["init"]:
        started = _whole(warehouse, task["init"]["model_id"])
        task["init"] = task["init"] | {
            "folder": str(models.model_folder(warehouse, started["model_id"]).resolve()),
            "old": _intact(lake, "vocabulary", started["lineage"]["vocabulary"], started).only_file,
            "new": _intact(lake, "vocabulary", lineage["vocabulary"], card).only_file,
        }
    return task


def _whole(warehouse: Path, model_id: str) -> dict[str, Any]:
    """The card of a model whose files are those that were written; LakeError if they are not."""
    card = models.read_card(warehouse, model_id)
    if damaged := cards.damaged(models.model_folder(warehouse, model_id), card):
        raise LakeError(f"model {model_id} is damaged: {damaged} is not what was written")
    return card


def _intact(lake: Lake, name: str, link: dict[str, str], card: dict[str, Any]) -> Dataset:
    """The data set that a card's link names, with the content it had; LakeError if it is gone or another."""
    found = lake.find(name, link["key"])
    if found is None:
        cycle = f"the cycle of {card['lineage']['cycle_date']} ({card['lineage']['contract']})"
        raise LakeError(
            f"model {card['model_id']} cannot be trained again: its {name} {link['key']} were removed; "
            f"`fieldmart encode` makes those of {cycle} again, if its source and the code are the same"
        )
    found.verify()
    if found.content != link["content"]:
        raise LakeError(f"model {card['model_id']} cannot be trained again: its {name} {link['key']} were made anew")
    return found


def _train(task: dict[str, Any], work: Path, spark: Callable[[], SparkSession]) -> dict[str, Any]:
    strategy = task["strategy"]
    if strategy["way"] == "sweep":
        return workers.train(task)
    return mixing.train(
        spark(), task, work.resolve() / "mixing", strategy["partitions"], strategy["syncs"], say=lambda _: None
    )


def links(card: dict[str, Any]) -> list[Compared]:
    """Code, lock, versions and machine of the model and of this process."""
    now = environment()
    # A card of before a link was known does not have it.
    return [Compared(name, str(card["lineage"].get(name, "not told")), str(value)) for name, value in now.items()]


def files(card: dict[str, Any], folder: Path, again: dict[str, Any], made: Path) -> list[Compared]:
    """Every file of both models, by checksum; JSON without what is measured."""
    found = []
    for name in sorted({*card["files"], *again["files"]}):
        both = ((folder, card["files"].get(name)), (made, again["files"].get(name)))
        if name.endswith(".json"):
            then, now = (content_sha(root / name) if there else "absent" for root, there in both)
        else:
            then, now = (there or "absent" for _, there in both)
        found.append(Compared(name, then, now))
    return found


def content_sha(path: Path) -> str:
    """Checksum of a JSON file without what is measured."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(item) for name, item in value.items() if name not in MEASURED}
        return [kept(item) for item in value] if isinstance(value, list) else value

    return sha256_json(kept(json.loads(path.read_text())))


def curve_differences(then: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Largest relative difference of each loss over the epochs, by name; infinite if the epochs are not as many."""
    found = {}
    for name in ("train_logloss", "valid_logloss"):
        before, after = ([entry[name] for entry in curve] for curve in (then, now))
        if before and None not in before:
            pairs = zip(before, after, strict=False)
            same = len(before) == len(after) and None not in after
            found[f"{name} of each epoch"] = max(abs(b / a - 1) for a, b in pairs) if same else float("inf")
    return found


def sample_difference(task: dict[str, Any], folder: Path, made: Path) -> float:
    """Relative difference of the calibrated logloss of the two models on the last rows that were not trained on, or the
    last rows if all were."""
    store = RowStore.open(task["rows"])
    span = store.span(*(task["calib"] or task["valid"] or task["train"]))
    rows = slice(max(span.start, span.stop - SAMPLE), span.stop)
    losses = []
    for path in (folder, made):
        model = scoring.ScoringModel(str(path))
        p = model.score(np.ascontiguousarray(store.X[rows]))[1]
        losses.append(float(row_logloss(store.y[rows], p).mean()))
    return losses[1] / losses[0] - 1


def show(found: Reproduction, console: Console) -> None:
    """Print what was compared and the verdict."""
    table = Table(title=f"{found.model_id}, trained again")
    for name in ("compared", "then", "now", "equal"):
        table.add_column(name, overflow="fold")
    for pair in (*found.links, *found.files):
        table.add_row(pair.what, _short(pair.then), _short(pair.now), "yes" if pair.same else "[yellow]no[/yellow]")
    for name, difference in found.losses.items():
        table.add_row(name, "", f"{difference:+.2g} of it", "yes" if abs(difference) <= TOLERANCE else "no")
    console.print(table)
    other = ", ".join(link.what for link in found.links if link.what in DECISIVE and not link.same)
    if other:
        console.print(f"Not the same as then: {other}. Other bits are to be expected.", soft_wrap=True)
    bits = "the same bits" if found.identical else f"other bits, tolerance {TOLERANCE:.1%} of each loss"
    console.print(f"{'Reproduced' if found.reproduced else 'NOT reproduced'}: {bits}.", soft_wrap=True)


def _short(text: str) -> str:
    """The first digits of a checksum; anything else as it is."""
    is_digest = len(text.rstrip("+")) in (40, 64) and " " not in text
    return text[:12] if is_digest else text
