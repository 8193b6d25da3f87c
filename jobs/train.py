"""Job: train the contract's k grid and the hierarchical prior, one model per Spark task.

Only k differs between the FFM models. Early stopping and the calibrator have periods of their own. `refit` trains the
model that will be published once more, through the last matured period, with the epochs and calibrator found.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from ffm_udf import workers
from jobs import facts
from jobs.contract import Contract
from jobs.cycle import Cycle
from jobs.encode import base_rate
from jobs.lake import Dataset, code_sha, sha256_json
from jobs.lineage import lineage
from jobs.periods import PARTS

# A model's id stands for everything it depends on; the code is that of the worker and the kernels.
CODE = "ffm_udf.workers"


def run(cycle: Cycle, spark: SparkSession) -> Dataset:
    """Train what is missing and make the facts `models` and `training_curve`; returns `models`."""
    with cycle.stage("train") as stage:
        tasks = plan(cycle)
        known = [task for task in tasks if (Path(task["folder"]) / workers.CARD).exists()]
        cards = _execute(cycle, spark, tasks)
        models = write_facts(cycle, cards)
        stage.made(models, len(known) == len(tasks))
        stage.rows = sum(card["cost"]["train_rows"] * max(card["cost"]["epochs"], 1) for card in cards)
        stage.bytes = sum(card["cost"]["artifact_bytes"] for card in cards)
    return models


def plan(cycle: Cycle) -> list[dict[str, Any]]:
    """One task per model, the most expensive first so that no core waits for it alone at the end."""
    contract, examples = cycle.contract, cycle.dataset("examples")
    files = {part: examples.under(f"split={part}") for part in ("train", "valid", "calib")}
    fixed = contract.training.model_dump(exclude={"k"})
    tasks = [
        _task(cycle, "ffm", "candidate", {"k": k, **fixed}, files) for k in sorted(contract.training.k, reverse=True)
    ]
    return [*tasks, _task(cycle, "prior", "candidate", prior_parameters(contract), files)]


def prior_parameters(contract: Contract) -> dict[str, Any]:
    names, prior = contract.field_names, contract.prior
    levels = [names.index(name) for name in prior.candidate_levels]
    return {"levels": levels, "entity": names.index(prior.entity), "strength": prior.strength}


def refit_task(cycle: Cycle, model_id: str, calibrator: dict[str, float]) -> dict[str, Any]:
    """The task that trains candidate `model_id` again on all matured periods; its id is known before it is trained."""
    card = read_card(cycle, model_id)
    examples = cycle.dataset("examples")
    everything = [path for part in (*PARTS, "unused") for path in examples.under(f"split={part}")]
    hyper = dict(card["lineage"]["hyperparameters"])
    if card["algorithm"] == "ffm":
        hyper |= {"epochs": max(card["cost"]["best_epoch"], 1), "patience": None}
    files = {"train": everything, "valid": [], "calib": []}
    return _task(cycle, card["algorithm"], "refit", hyper, files, calibrator)


def refit(cycle: Cycle, spark: SparkSession, model_id: str, calibrator: dict[str, float]) -> str:
    """Train the refit of candidate `model_id`, to be served with `calibrator`, and return its id."""
    with cycle.stage("refit") as stage:
        task = refit_task(cycle, model_id, calibrator)
        stage.reused = (Path(task["folder"]) / workers.CARD).exists()
        card = _execute(cycle, spark, [task])[0]
        stage.rows = card["cost"]["train_rows"] * max(card["cost"]["epochs"], 1)
        cycle.remember({}, run={"refit_model_id": card["model_id"]})
    return card["model_id"]


def read_card(cycle: Cycle, model_id: str) -> dict[str, Any]:
    return json.loads((model_folder(cycle, model_id) / workers.CARD).read_text())


def model_folder(cycle: Cycle, model_id: str) -> Path:
    return cycle.warehouse / "models" / model_id


def _task(
    cycle: Cycle,
    algorithm: str,
    role: str,
    hyperparameters: dict[str, Any],
    files: dict[str, list[str]],
    calibrator: dict[str, float] | None = None,
) -> dict[str, Any]:
    examples, vocabulary = cycle.dataset("examples"), cycle.dataset("vocabulary")
    parts = {
        part: [str(Path(path).relative_to(examples.folder / examples.manifest["run"])) for path in paths]
        for part, paths in files.items()
    }
    identity = [examples.content, parts, algorithm, role, hyperparameters, calibrator, code_sha(CODE)]
    name = f"ffm-k{hyperparameters['k']}-s{hyperparameters['seed']}" if algorithm == "ffm" else "prior"
    model_id = f"{name}-{role}-{sha256_json(identity)[:12]}"
    days = cycle.dataset("label_rates").table().to_pylist()
    used = [row["period"] for row in days if row["split"] != "unused" and (role == "refit" or row["split"] == "train")]
    return {
        "model_id": model_id,
        "algorithm": algorithm,
        "role": role,
        "folder": str((cycle.warehouse / "models" / model_id).resolve()),
        "fields": cycle.contract.field_names,
        "n_features": vocabulary.rows,
        "files": files,
        "hyperparameters": hyperparameters,
        "calibrator": calibrator,
        "lineage": lineage(cycle)
        | {
            "hyperparameters": hyperparameters,
            "examples": {"key": examples.key, "content": examples.content},
            "vocabulary": {"key": vocabulary.key, "content": vocabulary.content},
            "snapshot": {"key": cycle.dataset("exposures").key, "content": cycle.dataset("exposures").content},
            "train_from": str(min(used)),
            "train_through": str(max(used)),
            "n_features": vocabulary.rows,
            "base_rate": base_rate(cycle.dataset("label_rates").table()),
        },
    }


def _execute(cycle: Cycle, spark: SparkSession, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One Spark task per model; what comes back to the driver is a card, not a model."""
    cards = []
    done = spark.sparkContext.parallelize(tasks, len(tasks)).map(workers.train)
    for card in done.collect():
        cost = card["cost"]
        if card["algorithm"] == "ffm":
            cycle.progress.note(
                f"{card['model_id']}: best epoch {cost['best_epoch']} of {cost['epochs']}, "
                f"{cost['rows_per_s']:,.0f} rows/s, {cost['cpu_s']:.1f} CPU-s, compile {cost['jit_s']:.1f} s"
            )
        cards.append(card)
    return cards


def write_facts(cycle: Cycle, cards: list[dict[str, Any]]) -> Dataset:
    """The facts `models` and `training_curve` of these cards; returns `models`."""
    rows, curve = [model_row(card) for card in cards], []
    for card in cards:
        curve += [
            {
                "model_id": card["model_id"],
                "epoch": entry["epoch"],
                "train_logloss": entry["train_logloss"],
                "valid_logloss": entry["valid_logloss"],
                "wall_s": entry["seconds"],
            }
            for entry in card["curve"]
        ]
    keys = {}
    for name, found in (("models", rows), ("training_curve", curve)):
        table = facts.table(name, found)
        keys[name] = cycle.lake.key(name, __name__, {"rows": sha256_json(table.to_pylist())}, None)
        if cycle.lake.find(name, keys[name]) is None:
            cycle.lake.write_fact(name, keys[name], table)
    cycle.remember(keys)
    return cycle.dataset("models")


def model_row(card: dict[str, Any]) -> dict[str, Any]:
    """The row of fact `models` for one card."""
    hyper, cost = card["lineage"]["hyperparameters"], card["cost"]
    shared = {name: value for name, value in hyper.items() if name not in ("k", "seed")}
    return {
        "model_id": card["model_id"],
        "algorithm": card["algorithm"],
        "k": hyper.get("k", 0),
        "seed": hyper.get("seed", 0),
        "role": card["role"],
        "n_fields": len(card["fields"]),
        "n_features": card["lineage"]["n_features"],
        "train_from": dt.date.fromisoformat(card["lineage"]["train_from"]),
        "train_through": dt.date.fromisoformat(card["lineage"]["train_through"]),
        "calibrator_id": calibrator_id(card["calibrator"]),
        "calibrator_slope": card["calibrator"]["slope"],
        "calibrator_intercept": card["calibrator"]["intercept"],
        "hyperparameters": json.dumps(shared, sort_keys=True),
        **cost,
    }


def calibrator_id(calibrator: dict[str, float]) -> str:
    return f"logistic-{sha256_json(calibrator)[:8]}"


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("train"))
