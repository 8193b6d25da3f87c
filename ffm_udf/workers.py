"""What runs inside a training task on an executor: train one model on mapped rows, measure what it cost, commit it.

No Spark here: a task is a plain dictionary, so the same code runs in a test, in a notebook or on a cluster.

    model_id, algorithm, role, folder        what to make and where
    rows, fields, n_features                 a RowStore folder and the sizes of its ids
    train, valid, calib                      [first, last] period of each part; valid and calib may be None
    hyperparameters                          keyword arguments of the model
    half_life                                periods after which a row counts half, or None
    init                                     None, or {model_id, folder, old, new}: start from that model, whose ids are
                                             those of vocabulary file `old`; ours are those of `new`
    ordered                                  of boosted trees: {vocabulary, history, log2}, the vocabulary file and the
                                             fields whose values have an order; else None
    calibrator, level                        of a model without calib periods of its own: another one's calibrator, and
                                             the [first, last] periods on which its p are brought to the rate
    strategy, lineage                        what the card repeats
"""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ffm_udf import FFM, calibration
from ffm_udf import card as cards
from ffm_udf.boosted_trees import ordinals
from ffm_udf.calibration import fit as fit_calibrator
from ffm_udf.cost import measured
from ffm_udf.row_store import RowStore
from ffm_udf.scorer import Scorer, make
from ffm_udf.scorer import cost as scorer_cost
from ffm_udf.vocabulary import ids as ids_of


def train(task: dict[str, Any]) -> dict[str, Any]:
    """Train the task's model in this process and return its card. A finished, undamaged folder is returned as it is."""
    began = time.time()
    if card := finished(task):
        return card
    store = RowStore.open(task["rows"])
    jit_s = warm_up(task)
    rows = store.span(*task["train"])
    with measured() as cost:
        model = fitted(task, store)
    passed = (rows.stop - rows.start) * max(len(model.history_), 1)
    spent = {"stage": "fit", "partition": 0, "rows": passed, "jit_s": jit_s, "bytes_read": bytes_read(task, store)}
    return finish(task, model, model.history_, [spent | asdict(cost)], began)


def finished(task: dict[str, Any]) -> dict[str, Any] | None:
    """The card of the task's model if it was trained before and is whole; a damaged folder is removed."""
    folder = Path(task["folder"])
    if not (folder / cards.NAME).exists():
        return None
    card = cards.read(folder)
    if cards.damaged(folder, card) is None:
        return card
    shutil.rmtree(folder)
    return None


def bytes_read(task: dict[str, Any], store: RowStore) -> int:
    """Bytes of the mapped rows that the task's parts cover."""
    spans = [store.span(*task[part]) for part in ("train", "valid") if task[part]]
    return sum(store.X[span].nbytes + store.y[span].nbytes for span in spans)


def row_weights(task: dict[str, Any], store: RowStore) -> np.ndarray | None:
    """float32 [n] of the training rows: halved every `half_life` periods before the last; None if all weigh 1."""
    if task["half_life"] is None:
        return None
    first, last = task["train"]
    age = last - store.period_numbers(store.span(first, last))
    return np.float32(0.5) ** (age.astype(np.float32) / np.float32(task["half_life"]))


def fitted(task: dict[str, Any], store: RowStore) -> Scorer:
    """The task's model, trained on slices of the mapped rows."""
    train, valid = store.span(*task["train"]), store.span(*task["valid"]) if task["valid"] else None
    more: dict[str, Any] = {}
    if task["init"]:
        more["init"] = initial(task)
    return made(task).fit(
        store.X[train],
        store.y[train],
        eval_set=None if valid is None else (store.X[valid], store.y[valid]),
        sample_weight=row_weights(task, store),
        n_features=task["n_features"],
        **more,
    )


def made(task: dict[str, Any]) -> Scorer:
    """The task's model, not yet trained."""
    hyper = task["hyperparameters"]
    if ordered := task["ordered"]:
        rows = [(name, value, feature) for (name, value), feature in ids_of(ordered["vocabulary"]).items()]
        hyper = hyper | {"ordinals": ordinals(rows, ordered["history"], ordered["log2"])}
    return make(task["algorithm"], hyper)


def initial(task: dict[str, Any]) -> FFM | None:
    """Another day's model with today's feature ids, or None; a value it did not know starts from its field's OOV."""
    init = task["init"]
    if init is None:
        return None
    old, new = (ids_of(init[name]) for name in ("old", "new"))
    ids, unknown = np.empty(len(new), np.int64), np.empty(len(new), np.int64)
    for (name, value), feature in new.items():
        ids[feature], unknown[feature] = old.get((name, value), -1), old.get((name, None), -1)
    return FFM.load(Path(init["folder"]) / cards.START).renumbered(ids, unknown)


def finish(
    task: dict[str, Any],
    model: Scorer,
    curve: list[dict[str, Any]],
    costs: list[dict[str, Any]],
    began: float | None = None,
) -> dict[str, Any]:
    """Calibrate the trained `model`, write its folder and return its card.

    `curve`: epoch, train_logloss, valid_logloss, seconds of each epoch. `costs`: one record per stage and partition
    (stage, partition, rows, wall_s, cpu_s, jit_s, peak_rss_mib, bytes_read). `began`: when training started, Unix time.
    """
    folder, store = Path(task["folder"]), RowStore.open(task["rows"])
    nothing = {"partition": 0, "jit_s": 0.0, "bytes_read": 0}
    with measured() as cost:
        if task["calib"]:
            calib = store.span(*task["calib"])
            calibrator = fit_calibrator(model.decision_function(store.X[calib]), store.y[calib])
        else:
            calib, calibrator = slice(0, 0), calibration.load(task["calibrator"])
            if task["level"]:
                calib = store.span(*task["level"])
                calibrator = calibration.levelled(calibrator, model.decision_function(store.X[calib]), store.y[calib])
    costs = [*costs, {"stage": "calibrate", "rows": calib.stop - calib.start, **nothing, **asdict(cost)}]
    with measured() as cost:
        model.save(folder)
        if task["role"] == "candidate" and isinstance(model, FFM) and model.keep_before_best:
            model.before_best().save(folder / cards.START, state=True)
    costs.append({"stage": "save", "rows": 0, **nothing, **asdict(cost)})
    files, kept = cards.checksums(folder), scorer_cost(model, folder)
    train = store.span(*task["train"])
    card = {
        "model_id": task["model_id"],
        "algorithm": task["algorithm"],
        "role": task["role"],
        "fields": list(task["fields"]),
        "calibrator": calibration.as_dict(calibrator),
        "strategy": task["strategy"],
        "lineage": task["lineage"],
        "task": {name: value for name, value in task.items() if name not in ("folder", "rows", "lineage", "fields")},
        "files": files,
        "curve": curve,
        "costs": costs,
        "refit_hyperparameters": refit_hyperparameters(task, model),
        "began_at": began or time.time(),
        "ended_at": time.time(),
        "cost": summary(curve, costs, train.stop - train.start) | asdict(kept),
    }
    cards.write(folder, card)
    return card


def refit_hyperparameters(task: dict[str, Any], model: Any) -> dict[str, Any]:
    """What repeats this training on more rows without a validation part: the epochs and settings found on it."""
    hyper, epochs = task["hyperparameters"], max(model.best_epoch_, 1)
    if task["algorithm"] == "lr":
        return hyper | {"grid": [model.C_]}
    if task["algorithm"] == "lightgbm":
        best = min(model.trials_, key=lambda trial: trial["valid_logloss"] or 0.0)
        return hyper | {"grid": [best["parameters"]], "rounds": epochs}
    if task["algorithm"] == "prior":
        return hyper
    kept = {"keep_before_best": False} if task["algorithm"] == "ffm" else {}
    return hyper | {"epochs": epochs, "patience": None, **kept}


def summary(curve: list[dict[str, Any]], costs: list[dict[str, Any]], rows: int) -> dict[str, Any]:
    """What the fact `models` says of a training: partitions add up in CPU time and overlap in wall time and memory."""
    passes = [cost for cost in costs if cost["stage"] in ("fit", "pass", "merge", "validation")]
    seconds = sum(entry["seconds"] for entry in curve)
    wall = {stage: max(c["wall_s"] for c in passes if c["stage"] == stage) for stage in {c["stage"] for c in passes}}
    return {
        "train_rows": rows,
        "cpu_s": sum(cost["cpu_s"] for cost in passes),
        "wall_s": sum(wall.values()),
        "jit_s": max(cost["jit_s"] for cost in costs),
        "peak_rss_mib": max(cost["peak_rss_mib"] for cost in costs),
        "bytes_read": sum(cost["bytes_read"] for cost in costs),
        "rows_per_s": rows * len(curve) / seconds if seconds else rows / max(sum(wall.values()), 1e-9),
    }


def warm_up(task: dict[str, Any]) -> float:
    """Fit the task's model on two rows, so that no compilation falls into what is measured; seconds it took."""
    if task["algorithm"] not in ("ffm", "fm", "lr_cross"):
        return 0.0
    began = time.perf_counter()
    X, y = np.zeros((2, len(task["fields"])), np.int32), np.array([0, 1], np.int8)
    once = task["hyperparameters"] | {"epochs": 1} | ({"negative_rate": 1.0} if task["algorithm"] == "ffm" else {})
    make(task["algorithm"], once).fit(X, y, eval_set=(X, y), n_features=1)
    return time.perf_counter() - began
