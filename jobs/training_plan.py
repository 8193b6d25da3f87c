"""How a night's models are trained, what that needs and how long it may take. No Spark: this is the plan."""

from __future__ import annotations

import enum
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from rich.table import Table

from ffm_udf.layout import Layout, padded_width
from ffm_udf.memory import available_bytes
from ffm_udf.row_store import RowStore
from ffm_udf.scorer import make
from ffm_udf.training import training_bytes

Way = Literal["sweep", "mixing"]

# Below this many training rows one task passes an epoch in seconds and mixing would only add rounds.
LARGE = 10_000_000
SYNC_SECONDS = 0.5  # assumed for a round of mixing beside the passes: reading, merging and validating in Spark tasks
PROBE_ROWS = 100_000  # passed once per k to learn this machine's rate


class TrainError(ValueError):
    """A plan that cannot be carried out; the message says what to change."""


class Strategy(enum.StrEnum):
    """What the command line may ask for."""

    auto = "auto"
    sweep = "sweep"
    mixing = "mixing"


@dataclass(frozen=True)
class Options:
    """How to train, as far as the command line says; None or auto leaves it to the job."""

    sweep: bool = False  # the sweep's grid instead of the nightly's
    strategy: Strategy = Strategy.auto
    partitions: int | None = None  # of one mixed model; None: one per slot
    syncs: int = 1  # rounds of mixing per epoch
    stall_timeout: float = 300.0
    init: str | None = None  # date of the cycle whose candidates to start from


@dataclass(frozen=True)
class Choice:
    """How the FFM models of a night are trained, and why so."""

    way: Way
    partitions: int
    syncs: int
    why: str

    def record(self) -> dict[str, Any]:
        """What a task and a card carry."""
        return {"way": self.way, "partitions": self.partitions, "syncs": self.syncs}


SWEEP = {"way": "sweep", "partitions": 1, "syncs": 1}


@dataclass(frozen=True)
class Need:
    """What one model needs: bytes on disk, bytes of the process that trains it, CPU-seconds if every epoch is used."""

    artifact_bytes: int
    training_bytes: int
    seconds: float


def layout_of(task: dict[str, Any]) -> Layout:
    """The FFM's layout."""
    return Layout(task["hyperparameters"]["k"], len(task["fields"]), task["n_features"], "vector")


def scoring_bytes(layout: Layout) -> int:
    """Bytes of a model's arrays on disk: blocks, linear weights and bias."""
    return layout.n_features * (layout.stride + 1) * 4 + 4


def need(task: dict[str, Any], rows: int, rates: dict[tuple[str, int], float]) -> Need:
    """Closed form, times from `rates`. Baselines that are not factorization machines are not predicted."""
    if task["algorithm"] not in ("ffm", "fm"):
        return Need(0, 0, 0.0)
    hyper, n = task["hyperparameters"], task["n_features"]
    rate = rates.get((task["algorithm"], hyper["k"]))
    seconds = rows * hyper["epochs"] / rate if rate else 0.0
    if task["algorithm"] == "fm":  # one vector and one sum per feature, and the weights of the best epoch
        width = padded_width(hyper["k"])
        return Need(4 * (n * (width + 1) + 1), 4 * n * (2 * width + 4) + 9 * rows, seconds)
    layout = layout_of(task)
    copies = int(task["valid"] is not None) + 2 * int(hyper.get("keep_before_best", False))
    return Need(scoring_bytes(replace(layout, sums=None)), training_bytes(layout, rows, copies), seconds)


def makespan(seconds: Sequence[float], slots: int) -> float:
    """Longest-first over `slots` workers: when the last one is done."""
    free = [0.0] * max(slots, 1)
    for length in sorted(seconds, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + length)
    return max(free)


def choose(options: Options, rows: int, needs: Sequence[Need], slots: int, epochs: int) -> Choice:
    """Sweep, or mixing where the data is large and it is done sooner or the sweep does not fit into memory."""
    partitions = options.partitions or slots
    if options.syncs < 1 or partitions < 1:
        raise TrainError(f"partitions and syncs must be at least 1, got {partitions} and {options.syncs}")
    if partitions > rows:
        raise TrainError(f"partitions must not exceed the {rows:,} training rows, got {partitions:,}")
    if options.strategy is Strategy.mixing:
        return Choice("mixing", partitions, options.syncs, "asked for")
    if options.strategy is Strategy.sweep:
        if options.partitions or options.syncs > 1:
            raise TrainError("partitions and syncs are of mixing, they have no meaning with strategy sweep")
        return Choice("sweep", 1, 1, "asked for")
    if rows < LARGE:
        unused = "; partitions and syncs have no effect" if options.partitions or options.syncs > 1 else ""
        why = f"{rows:,} training rows are fewer than {LARGE:,}: one task passes them quickly{unused}"
        return Choice("sweep", 1, 1, why)
    alone = makespan([each.seconds for each in needs], slots)
    rounds = len(needs) * epochs * options.syncs * SYNC_SECONDS
    together = sum(each.seconds for each in needs) / min(partitions, slots) + rounds  # in no more epochs than alone
    said = f"{rows:,} training rows, {len(needs)} models, {slots} slots: sweep {alone:,.0f} s, mixing {together:,.0f} s"
    if max((each.training_bytes for each in needs), default=0) * min(slots, len(needs)) > available_bytes():
        return Choice("mixing", partitions, options.syncs, f"{said}, and the sweep's models do not fit side by side")
    if together < alone:
        return Choice("mixing", partitions, options.syncs, f"{said} at most")
    return Choice("sweep", 1, 1, f"{said} at most")


def check_fits(tasks: Sequence[dict[str, Any]], needs: Sequence[Need]) -> None:
    """Raise TrainError if the largest model alone cannot be trained on this machine."""
    largest = max(range(len(tasks)), key=lambda i: needs[i].training_bytes)
    check_memory([tasks[largest]], [needs[largest]], 1, Choice("sweep", 1, 1, ""))


def check_memory(tasks: Sequence[dict[str, Any]], needs: Sequence[Need], slots: int, strategy: Choice) -> None:
    """Raise TrainError if what runs at the same time on one machine cannot fit."""
    there = available_bytes()
    if strategy.way == "mixing":
        largest = max(range(len(tasks)), key=lambda i: needs[i].training_bytes)
        wanted = [needs[largest].training_bytes] * min(slots, strategy.partitions)
    else:
        wanted = sorted((each.training_bytes for each in needs), reverse=True)[:slots]
    if sum(wanted) > there:
        top = max(task["hyperparameters"].get("k", 0) for task in tasks)
        raise TrainError(
            f"training must fit into memory, got {sum(wanted) / 2**30:.2f} GiB for {len(wanted)} models at once "
            f"(k up to {top}) where {there / 2**30:.2f} GiB are free; use fewer cores, a smaller k or a higher "
            "min_count"
        )


def rates(tasks: Sequence[dict[str, Any]], store: RowStore) -> dict[tuple[str, int], float]:
    """Rows per second by algorithm and k on this machine, from one pass over a few of the training rows."""
    found: dict[tuple[str, int], float] = {}
    for task in tasks:
        which = (task["algorithm"], task["hyperparameters"].get("k", 0))
        if which in found or task["algorithm"] not in ("ffm", "fm"):
            continue
        span = store.span(*task["train"])
        some = slice(span.start, min(span.stop, span.start + PROBE_ROWS))
        y = np.array(store.y[some])
        y[:2] = 0, 1  # the first rows need not hold both labels
        off = {"keep_before_best": False, "negative_rate": 1.0} if task["algorithm"] == "ffm" else {}
        model = make(task["algorithm"], task["hyperparameters"] | {"epochs": 1, "patience": None} | off)
        model.fit(store.X[some], y, n_features=task["n_features"])
        found[which] = model.history_[0]["rows_per_s"]
    return found


def only_k_varies(tasks: Sequence[dict[str, Any]]) -> None:
    """Raise TrainError if FFM candidates differ in anything but k and seed."""
    fixed: dict[str, Any] = {}
    for task in tasks:
        if task["algorithm"] != "ffm":
            continue
        hyper = {name: value for name, value in task["hyperparameters"].items() if name not in ("k", "seed")}
        same = {"hyperparameters": hyper, **{n: task[n] for n in ("rows", "train", "valid", "calib", "half_life")}}
        same["init"] = task["init"] is not None
        fixed = fixed or same
        if same != fixed:
            wrong = sorted(name for name in same if same[name] != fixed[name])
            raise TrainError(f"only k and the seed may differ between the models of a grid, got different {wrong}")


def plan_table(
    tasks: Sequence[dict[str, Any]], needs: Sequence[Need], rows: int, slots: int, strategy: Choice
) -> Table:
    """What `--dry-run` shows: one line per model and the whole."""
    table = Table(title=f"{len(tasks)} models on {rows:,} rows, strategy {strategy.way}: {strategy.why}")
    for name in ("algorithm", "k", "seed", "epochs", "MiB on disk", "MiB in training", "minutes"):
        table.add_column(name, justify="left" if name == "algorithm" else "right", no_wrap=True)
    for task, each in zip(tasks, needs, strict=True):
        hyper = task["hyperparameters"]
        known = each.training_bytes > 0
        cells = [f"{each.artifact_bytes / 2**20:,.1f}", f"{each.training_bytes / 2**20:,.0f}", _minutes(each.seconds)]
        table.add_row(
            task["algorithm"],
            *(str(hyper.get(name, "")) for name in ("k", "seed", "epochs")),
            *(cells if known else ("", "", "unknown")),
        )
    ffm = [each.seconds for task, each in zip(tasks, needs, strict=True) if task["algorithm"] == "ffm"]
    others = [each.seconds for task, each in zip(tasks, needs, strict=True) if task["algorithm"] != "ffm"]
    if strategy.way == "mixing":
        seconds = makespan(others, slots) + sum(ffm) / min(strategy.partitions, slots)
    else:
        seconds = makespan([*ffm, *others], slots)
    table.caption = f"all epochs on {slots} cores: {_minutes(seconds)} minutes; the rehearsals come on top"
    return table


def _minutes(seconds: float) -> str:
    return f"{math.ceil(seconds / 6) / 10:,.1f}"
