"""What a mixing run does inside a task: prepare, one partition's pass, one shard's merge, validation, the final model.

Every step reads and writes files below the run's work folder and returns a few numbers, so nothing as large as the
model or the data ever passes through the driver. A step depends on its own fields and on finished files alone: done
twice, by another worker or in another run, it writes the same bytes. The algorithm is in mixing.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ffm_udf import checkpoints, workers
from ffm_udf.cost import measured
from ffm_udf.heartbeat import FINISHED
from ffm_udf.mixing_steps import Mixing, Step
from ffm_udf.row_store import RowStore
from ffm_udf.rows import NO_WEIGHT, checked_labels, checked_rows
from ffm_udf.training import DIVERGED, check_training_memory, compile_for, constant_logloss, train_epoch
from ffm_udf.weights import Weights, mean_logloss

ROWS_AT_ONCE = 200_000  # between two heartbeats: about a tenth of a second
FEATURES_AT_ONCE = 1 << 14  # merged together


def run_step(step: Step) -> dict[str, Any]:
    """Do the step and return its numbers with what it cost: {stage, partition, rows, wall_s, cpu_s, jit_s,
    peak_rss_mib, bytes_read}. Compilation is apart from the seconds."""
    jit_s = compile_for(step.mixing.layout, np.zeros((0, step.mixing.layout.n_fields), np.int32))
    step.beat(0)
    with measured() as cost:
        found = STAGES[step.stage](step)
    step.beat(FINISHED)
    about = {"stage": step.stage, "partition": step.partition, "rows": 0, "bytes_read": 0, "jit_s": jit_s}
    return found | {"cost": about | found.pop("cost", {}) | asdict(cost)}


def prepare(step: Step) -> dict[str, Any]:
    """Only compiles the kernels, except for partition 0: it looks whether the model is there already, and if not checks
    all rows and writes the weights before the first epoch."""
    mixing, task = step.mixing, step.mixing.task
    if step.partition > 0:
        return {}
    if card := workers.finished(task):
        return {"card": card}
    store = RowStore.open(task["rows"])
    if store.fields != list(task["fields"]):
        raise ValueError(f"rows {task['rows']} have the fields {store.fields}, the task {task['fields']}")
    X, y = _rows(store, task["train"])
    checked = checked_rows(X, "X", mixing.layout.n_fields, mixing.layout.n_features)
    labels = checked_labels(y, len(X))
    if task["valid"]:
        Xv, yv = _rows(store, task["valid"])
        checked_rows(Xv, "eval_set X", mixing.layout.n_fields, mixing.layout.n_features)
        checked_labels(yv, len(yv), "eval_set y")
    model, importance = mixing.model, workers.row_weights(task, store)
    kept = model._kept(labels)
    if len(kept) < mixing.partitions * mixing.syncs:
        raise ValueError(f"partitions x syncs must be at most the {len(kept)} rows to train on, got "
                         f"{mixing.partitions} x {mixing.syncs}")  # fmt: skip
    check_training_memory(mixing.layout, len(kept) // mixing.partitions, 0)
    if importance is not None:
        checkpoints.save_array(mixing.work / "importance.npy", importance)
    if len(kept) < len(X):
        checkpoints.save_array(mixing.work / "kept.npy", kept)
    weights = _first_weights(mixing, checked, kept)
    checkpoints.save(mixing.epoch_folder(0), weights)
    slices = checkpoints.slices(mixing.epoch_folder(0), weights)
    trained_on = NO_WEIGHT if importance is None else importance[kept]
    limit = DIVERGED * max(constant_logloss(labels[kept], trained_on), np.log(2.0))
    return {
        "slices": slices,
        "limit": float(limit),
        "rows": len(kept),
        "cost": {"rows": len(X), "bytes_read": X.nbytes},
    }


def _first_weights(mixing: Mixing, rows: np.ndarray, kept: np.ndarray) -> Weights:
    """The weights that FFM.fit starts from."""
    model, init = mixing.model, workers.initial(mixing.task)
    layout = model._layout(rows, None, mixing.layout.n_fields, mixing.layout.n_features, init)
    low, high = model._start()
    weights = Weights.start(layout, low, high, model.seed)
    weights.level_unseen(rows, kept, low, high)
    if init is not None:
        weights.copy_from(init.fitted_weights())
    return weights


def row_order(step: Step, n_rows: int) -> np.ndarray:
    """Row numbers of this pass, int32: every `partitions`-th row that is trained on, shuffled anew each epoch, and of
    those the sync's share. Zeros at the end of a seed count for nothing: one partition has the order of FFM.fit."""
    mixing, p = step.mixing, step.partition
    path = mixing.work / "kept.npy"
    if path.exists():
        mine = np.array(np.load(path, mmap_mode="r")[p :: mixing.partitions])
    else:
        mine = np.arange(p, n_rows, mixing.partitions, dtype=np.int32)
    order = np.random.default_rng([mixing.model.seed, step.epoch, p]).permutation(mine)
    size, sync = len(order), step.sync
    return order[size * (sync - 1) // mixing.syncs : size * sync // mixing.syncs]


def train_pass(step: Step) -> dict[str, Any]:
    """One AdaGrad pass over the partition's rows from the shared weights; writes the weights it ends with."""
    mixing = step.mixing
    X, y = _rows(RowStore.open(mixing.task["rows"]), mixing.task["train"])
    path = mixing.work / "importance.npy"
    importance = np.asarray(np.load(path, mmap_mode="r")) if path.exists() else NO_WEIGHT
    settings = replace(mixing.model, eta=step.eta)._settings()
    weights = checkpoints.load(mixing.state(step.epoch, step.sync - 1), mixing.layout).copy()
    began, loss, mass, done = time.perf_counter(), 0.0, 0.0, 0
    order = row_order(step, len(X))
    for part in _parts(order):
        part_mass = float(importance[part].sum(dtype=np.float64)) if len(importance) else len(part)
        loss += train_epoch(weights, X, y, importance, part, settings) * part_mass
        mass, done = mass + part_mass, done + len(part)
        step.beat(done)
    seconds = time.perf_counter() - began
    checkpoints.save(step.result, weights)
    read = len(order) * (X[:1].nbytes + 1) + weights.blocks.nbytes
    return {"loss": loss, "mass": mass, "seconds": seconds, "cost": {"rows": len(order), "bytes_read": read}}


def merged(start: np.ndarray, parts: list[np.ndarray], width: int, merge: str) -> np.ndarray:
    """Rows of the shared state from those that the partitions ended with.

    The first `width` columns are weights and are averaged. The others are AdaGrad sums: "sum" adds what every partition
    added to `start` (Juan, Lefortier, Chapelle 2017, Algorithm 2), "average" averages them as well.
    """
    total = parts[0].copy()
    for part in parts[1:]:
        total[:, :width] += part[:, :width]
        total[:, width:] += part[:, width:] if merge == "average" else part[:, width:] - start[:, width:]
    total[:, : None if merge == "average" else width] /= len(parts)
    return total


def merge_shard(step: Step) -> dict[str, Any]:
    """Merge one shard of the features, and in the first shard the bias, into the next shared weights."""
    mixing, layout = step.mixing, step.mixing.layout
    passes = [replace(step, stage="pass", partition=p).result for p in range(mixing.partitions)]
    parts = [checkpoints.tables(checkpoints.load(folder, layout)) for folder in passes]
    start = checkpoints.tables(checkpoints.load(mixing.state(step.epoch, step.sync - 1), layout))
    folder, slices, read = mixing.state(step.epoch, step.sync), [], 0
    begin, end = step.bounds(layout.n_features)
    for name, width in (("blocks", layout.weights_width), ("linear", 1), ("bias", 1)):
        if name == "bias":
            begin, end = (0, 1) if step.partition == 0 else (0, 0)
        for first in range(begin, end, FEATURES_AT_ONCE):
            rows = slice(first, min(first + FEATURES_AT_ONCE, end))
            table = merged(start[name][rows], [part[name][rows] for part in parts], width, mixing.merge)
            slices.append(checkpoints.put(folder, name, first, table))
            read += table.nbytes * (1 + len(parts))
            step.beat(first)
    return {"slices": slices, "cost": {"bytes_read": read}}


def score_valid(step: Step) -> dict[str, Any]:
    """Summed logloss of the partition's share of the validation rows under the epoch's merged weights."""
    mixing = step.mixing
    X, y = _rows(RowStore.open(mixing.task["rows"]), mixing.task["valid"])
    weights = mixing.weights(step.epoch)
    settings, loss, done = mixing.model._settings(), 0.0, 0
    begin, end = step.bounds(len(X))
    for first in range(begin, end, ROWS_AT_ONCE):
        rows = slice(first, min(first + ROWS_AT_ONCE, end))
        size = rows.stop - rows.start
        loss += mean_logloss(weights.logits(X[rows], settings), y[rows]) * size
        done += size
        step.beat(done)
    read = (end - begin) * (X[:1].nbytes + 1) + weights.blocks.nbytes
    return {"loss": loss, "rows": end - begin, "cost": {"rows": end - begin, "bytes_read": read}}


def verify(step: Step) -> dict[str, Any]:
    """Whether every slice that the driver names is intact; the partitions share the slices."""
    mine = step.told["slices"][step.partition :: step.mixing.partitions]
    return {"intact": all(checkpoints.intact(step.mixing.work, part) for part in mine)}


def finish(step: Step) -> dict[str, Any]:
    """Write the model folder from the best epoch's weights and return its card."""
    mixing, told, model = step.mixing, step.told, step.mixing.model
    model.weights_ = mixing.weights(told["best_epoch"])
    model.history_, model.best_epoch_, model.compile_seconds_ = told["history"], told["best_epoch"], told["jit_s"]
    model._before_best = mixing.weights(max(told["best_epoch"] - 1, 0)) if model.keep_before_best else None
    model.half_loss_ = None
    return {"card": workers.finish(mixing.task, model, told["history"], told["costs"], told["began"])}


def _rows(store: RowStore, periods: list[int]) -> tuple[np.ndarray, np.ndarray]:
    span = store.span(*periods)
    return np.asarray(store.X[span]), np.asarray(store.y[span])


def _parts(order: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(order), ROWS_AT_ONCE):
        yield order[first : first + ROWS_AT_ONCE]


STAGES = {
    "prepare": prepare,
    "verify": verify,
    "pass": train_pass,
    "merge": merge_shard,
    "validation": score_valid,
    "finish": finish,
}
