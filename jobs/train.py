"""Job: train the grid's FFM models, the prior and the baselines; only k and the seed differ between the FFM models.

A candidate learns from the training periods, with early stopping and a calibrator on periods of their own. Its
rehearsal repeats it through the last calib period with the epochs found, as `refit` does through the last matured one
for the model that goes live: what is judged on the test periods is the whole procedure.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Sequence
from typing import Any

from pyspark.sql import SparkSession

from jobs import facts, mixing, models, row_arrays, sweep, training_plan
from jobs.calibrators import calibrator_id
from jobs.cycle import Cycle
from jobs.lake import Dataset, sha256_json
from jobs.training_plan import SWEEP, Choice, Need, Options
from jobs.training_tasks import candidates, rehearsed_through, repeated, spans
from jobs.watched_job import ready_slots


def run(cycle: Cycle, spark: SparkSession, options: Options | None = None) -> Dataset:
    """Train what is missing and make the facts `models`, `training_cost` and `training_curve`; returns `models`."""
    options = options or Options()
    with cycle.stage("train") as stage:
        cores = ready_slots(spark.sparkContext, cycle.progress.note)
        tasks, _, strategy = planned(cycle, options, cores)
        cycle.progress.note(f"strategy {strategy.way}: {strategy.why}")
        reused = all(models.is_finished(task) for task in tasks)
        found = execute(cycle, spark, tasks, options.stall_timeout)
        again = [repeated(cycle, card, "rehearsal", rehearsed_through(cycle)) for card in found]
        reused &= all(models.is_finished(task) for task in again)
        found += execute(cycle, spark, again, options.stall_timeout)
        stage.made(write_facts(cycle, found), reused)
        stage.rows = sum(card["cost"]["train_rows"] * max(card["cost"]["epochs"], 1) for card in found)
        stage.bytes = sum(card["cost"]["artifact_bytes"] for card in found)
    return cycle.dataset("models")


def planned(
    cycle: Cycle, options: Options, cores: int, measure: bool = False
) -> tuple[list[dict[str, Any]], list[Need], Choice]:
    """The candidates' tasks, what each needs and the strategy; TrainError if they cannot fit or differ in too much.

    Rates are measured where they are shown (`measure`) or where the data is large enough for them to decide.
    """
    store, (first, last) = row_arrays.opened(cycle), spans(cycle)["train"]
    rows = store.span(first, last).stop - store.span(first, last).start
    asked = candidates(cycle, options, SWEEP)
    training_plan.only_k_varies(asked)
    # What does not fit is refused before a model of its size is made to measure its rate.
    training_plan.check_fits(asked, [training_plan.need(task, rows, {}) for task in asked])
    speeds = training_plan.rates(asked, store) if measure or rows >= training_plan.LARGE else {}
    needs = [training_plan.need(task, rows, speeds) for task in asked]
    own = [each for task, each in zip(asked, needs, strict=True) if task["algorithm"] == "ffm"]
    strategy = training_plan.choose(options, rows, own, cores, cycle.contract.training.epochs)
    # Executors are taken to be machines like this one: what runs side by side on it must fit.
    training_plan.check_memory(asked, needs, min(cores, os.cpu_count() or 1), strategy)
    return candidates(cycle, options, strategy.record()), needs, strategy


def dry_run(cycle: Cycle, options: Options, cores: int) -> None:
    """Print what `run` would train, how and how long it may take; TrainError if it cannot fit."""
    tasks, needs, strategy = planned(cycle, options, cores, measure=True)
    store = row_arrays.opened(cycle)
    rows = store.span(*tasks[0]["train"])
    cycle.progress.console.print(training_plan.plan_table(tasks, needs, rows.stop - rows.start, cores, strategy))
    frozen = cycle.contract.training.model_dump()
    cycle.progress.console.print(f"Frozen for every k and seed: {json.dumps(frozen)}", soft_wrap=True)


def execute(
    cycle: Cycle, spark: SparkSession, tasks: Sequence[dict[str, Any]], stall_timeout: float
) -> list[dict[str, Any]]:
    """The cards of the tasks, in their order. What comes back to the driver is cards, never a model."""
    mixed = [task for task in tasks if task["strategy"]["way"] == "mixing"]
    alone = [task for task in tasks if task["strategy"]["way"] == "sweep"]
    trained = sweep.train(spark.sparkContext, alone, stall_timeout, cycle.progress.note)
    found = {card["model_id"]: card for card in trained}
    for task in mixed:
        how = {name: task["strategy"][name] for name in ("partitions", "syncs")}
        work = cycle.warehouse / "mixing" / task["model_id"]
        card = mixing.train(spark, task, work, **how, stall_timeout=stall_timeout, say=cycle.progress.note)
        found[card["model_id"]] = card
    return [found[task["model_id"]] for task in tasks]


def refit(cycle: Cycle, spark: SparkSession, model_id: str, calibrator: dict[str, Any], stall_timeout: float) -> str:
    """Train the refit of candidate `model_id`, to be served with `calibrator`, and return its id."""
    with cycle.stage("refit") as stage:
        card = models.read_card(cycle.warehouse, model_id)
        task = repeated(cycle, card, "refit", cycle.periods.last_matured, calibrator)
        stage.reused = models.is_finished(task)
        [made] = execute(cycle, spark, [task], stall_timeout)
        stage.rows = made["cost"]["train_rows"] * max(made["cost"]["epochs"], 1)
        cycle.remember({}, run={"refit_model_id": made["model_id"]})
    return made["model_id"]


def write_facts(cycle: Cycle, found: Sequence[dict[str, Any]]) -> Dataset:
    """The facts `models`, `training_cost` and `training_curve` of these cards; returns `models`."""
    seed = cycle.contract.grid.shipping_seed
    rows = {
        "models": [model_row(card, seed) for card in found],
        "training_cost": [row for card in found for row in cost_rows(card)],
        "training_curve": [
            {
                "model_id": card["model_id"],
                "epoch": entry["epoch"],
                "train_logloss": entry["train_logloss"],
                "valid_logloss": entry["valid_logloss"],
                "wall_s": entry["seconds"],
            }
            for card in found
            for entry in card["curve"]
        ],
    }
    keys = {}
    for name, listed in rows.items():
        table = facts.table(name, listed)
        keys[name] = cycle.lake.key(name, __name__, {"rows": sha256_json(table.to_pylist())}, None)
        if cycle.lake.find(name, keys[name]) is None:
            cycle.lake.write_fact(name, keys[name], table)
    cycle.remember(keys)
    return cycle.dataset("models")


def model_row(card: dict[str, Any], shipping_seed: int) -> dict[str, Any]:
    """The row of fact `models` for one card."""
    task, lineage = card["task"], card["lineage"]
    hyper = task["hyperparameters"]
    shared = {name: value for name, value in hyper.items() if name not in ("k", "seed")}
    return {
        "model_id": card["model_id"],
        "algorithm": card["algorithm"],
        "k": hyper.get("k", 0),
        "seed": hyper.get("seed", 0),
        "is_shipping_seed": hyper.get("seed", shipping_seed) == shipping_seed,
        "role": card["role"],
        "candidate_id": task["candidate_id"] or card["model_id"],
        "strategy": card["strategy"]["way"],
        "partitions": card["strategy"]["partitions"],
        "init_model_id": task["init"]["model_id"] if task["init"] else None,
        "negative_rate": hyper.get("negative_rate", 1.0),
        "window": task["window"],
        "half_life": task["half_life"],
        "n_fields": len(card["fields"]),
        "n_features": task["n_features"],
        "train_from": dt.date.fromisoformat(lineage["train_from"]),
        "train_through": dt.date.fromisoformat(lineage["train_through"]),
        "calibrator_id": calibrator_id(card["calibrator"]),
        "calibrator_slope": card["calibrator"].get("slope"),
        "calibrator_intercept": card["calibrator"].get("intercept"),
        "hyperparameters": json.dumps(shared, sort_keys=True),
        **card["cost"],
    }


def cost_rows(card: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of fact `training_cost` for one card: its stages and partitions, summed over the epochs."""
    hyper, found = card["task"]["hyperparameters"], {}
    for cost in card["costs"]:
        key = (cost["stage"], cost["partition"])
        total = found.setdefault(key, dict.fromkeys(("rows", "bytes_read"), 0) | dict.fromkeys(_SECONDS, 0.0))
        for name in ("rows", "bytes_read", *_SECONDS[:3]):
            total[name] += cost[name]
        total["peak_rss_mib"] = max(total["peak_rss_mib"], cost["peak_rss_mib"])
    which = {"model_id": card["model_id"], "k": hyper.get("k", 0), "seed": hyper.get("seed", 0)}
    return [
        which
        | {"stage": stage, "partition": partition, "artifact_bytes": card["cost"]["artifact_bytes"], **total}
        | {"rows_per_s": total["rows"] / total["wall_s"] if total["wall_s"] else 0.0}
        for (stage, partition), total in sorted(found.items())
    ]


_SECONDS = ("wall_s", "cpu_s", "jit_s", "peak_rss_mib")


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("train"))
