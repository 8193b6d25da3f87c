"""Job: score the valid, calib and test rows with every candidate and turn the predictions into facts.

Predictions stay on the executors; what reaches the driver are sums per model, period, slice and bin. Intervals are over
test periods (jobs/intervals.py), k is compared paired by period, and scoring cost is measured in a worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import FloatType, StructField, StructType

from ffm_udf import workers
from jobs import train
from jobs.calibrators import calibrated, calibrators
from jobs.comparison import calibration_interval, compare_k, with_intervals
from jobs.cycle import Cycle
from jobs.gate import load_gate
from jobs.lake import Dataset
from jobs.policies import load_rates, load_value
from jobs.value import value_facts

BINS = 20  # of the reliability curve
COST_ROWS, COST_REPEATS = 200_000, 7
LOGIT_STEPS = 2**14  # AUC counts scores closer than this part of a logit as ties


def run(cycle: Cycle, spark: SparkSession, gate: Path, rates: Path, value: Path) -> None:
    """Make the evaluation facts of this cycle."""
    cards = candidates(cycle)
    examples = cycle.dataset("examples").content
    if not cycle.has("period_metrics") or cycle.state()["run"].get("registered_for") != examples:
        # Thresholds are registered before anyone can have seen a result on these rows.
        cycle.remember({}, run={"registered_gate_sha": load_gate(gate).sha, "registered_for": examples})
    with cycle.stage("evaluate") as stage:
        predictions, reused = predict(cycle, spark, cards)
        stage.made(predictions, reused)
        policy = load_value(value)
        params = {
            "models": [card["model_id"] for card in cards],
            "margin": load_gate(gate).margin_relative_logloss,
            "slices": cycle.contract.part("slices", "slice_min_n"),
            "value": policy.sha,
        }
        names = ["period_metrics", "model_metrics", "k_comparison", "slice_metrics", "calibration_bins", "scoring_cost"]
        names += ["value_periods", "value_comparison"]
        keys = {name: cycle.lake.key(name, __name__, {"predictions": predictions.content}, params) for name in names}
        if not all(cycle.lake.find(name, key) for name, key in keys.items()):
            found = measure(cycle, spark, predictions, cards, params["margin"], policy)
            for name, key in keys.items():
                cycle.lake.write_fact(name, key, found[name])
        priced = load_rates(rates)
        keys["rates"] = cycle.lake.key("rates", __name__, {}, priced.sha)
        if cycle.lake.find("rates", keys["rates"]) is None:
            cycle.lake.write_fact("rates", keys["rates"], [priced.model_dump() | {"rates_sha": priced.sha}])
        cycle.remember(keys)


def candidates(cycle: Cycle) -> list[dict[str, Any]]:
    """Cards of the compared models, by k."""
    rows = cycle.dataset("models").table().to_pylist()
    return [
        train.read_card(cycle, row["model_id"])
        for row in sorted(rows, key=lambda r: r["k"])
        if row["role"] == "candidate"
    ]


def predict(cycle: Cycle, spark: SparkSession, cards: list[dict[str, Any]]) -> tuple[Dataset, bool]:
    """The data set `predictions`: the rows of valid, calib and test with a calibrated `p_<i>` per candidate.

    A night learns its calibrator on the periods just before the one it scores, so every test period gets the
    calibrator of the `calib` periods before it (rolling origin), learned from logits of rows no candidate trained on.
    A champion that is held keeps the calibrator of the night that promoted it.
    """
    examples = cycle.dataset("examples")
    folders = [str(train.model_folder(cycle, card["model_id"]).resolve()) for card in cards]
    ids = [card["model_id"] for card in cards]

    def write(out: Path) -> None:
        root = str(examples.folder / examples.manifest["run"])
        paths = sorted({str(Path(file).parent) for file in examples.under(*_parts())})
        rows = spark.read.option("basePath", root).parquet(*paths)
        with_logits(rows, folders).write.partitionBy("split").mode("append").parquet(str(out))

    logits, _ = cycle.make("logits", __name__, {"examples": examples.content}, ids, write)
    learned = calibrators(cycle, spark, logits, ids)

    def calibrate(out: Path) -> None:
        rows = spark.read.parquet(str(logits.folder / logits.manifest["run"]))
        calibrated(rows, learned, ids, cycle.periods.number).write.partitionBy("split").mode("append").parquet(str(out))

    inputs = {"logits": logits.content, "calibrators": cycle.dataset("calibrators").content}
    return cycle.make("predictions", __name__, inputs, ids, calibrate)


def _parts() -> list[str]:
    return [f"split={part}" for part in ("valid", "calib", "test")]


def with_logits(rows: DataFrame, folders: list[str]) -> DataFrame:
    """`rows` without their feature ids, with `z_<i>`, the raw logit of the model in folders[i]."""
    features = [name for name in rows.columns if name.startswith("f_")]
    kept = [name for name in rows.columns if not name.startswith("f_")]
    names = [*kept, *(f"z_{place}" for place in range(len(folders)))]
    schema = StructType(
        [*(rows.schema[name] for name in kept), *(StructField(n, FloatType()) for n in names[len(kept) :])]
    )

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            X = np.column_stack([batch.column(name).to_numpy() for name in features])
            columns = [batch.column(name) for name in kept]
            columns += [pa.array(workers.opened(folder).score(X)[0]) for folder in folders]
            yield pa.RecordBatch.from_arrays(columns, names=names)

    return rows.mapInArrow(score, schema)


def measure(
    cycle: Cycle, spark: SparkSession, predictions: Dataset, cards: list[dict[str, Any]], margin: float, policy: Any
) -> dict[str, list[dict]]:
    """All evaluation facts, computed from the predictions."""
    root = str(predictions.folder / predictions.manifest["run"])
    rows = spark.read.parquet(root).persist()
    ids = [card["model_id"] for card in cards]
    try:
        period_sums = by_period(rows, ids, cycle)
        metrics = with_intervals(period_sums, overall_auc(rows, ids))
        compared = compare_k(period_sums, cards, margin)
        verdict = next(row["model_id"] for row in compared if row["is_verdict"])
        value_periods, value_comparison = value_facts(rows, ids, ids.index(verdict), cards, cycle, policy)
        return {
            "period_metrics": period_sums,
            "model_metrics": metrics,
            "k_comparison": compared,
            "slice_metrics": by_slice(rows, ids, cycle),
            "calibration_bins": by_bin(rows, ids),
            "scoring_cost": scoring_cost(cycle, spark, cards),
            "value_periods": value_periods,
            "value_comparison": value_comparison,
        }
    finally:
        rows.unpersist()


def _sums(models: int) -> list[Column]:
    """n, conversions and, per model, the sums of p, logloss and squared error."""
    found = [F.count("*").alias("n"), F.sum("y").cast("long").alias("conversions")]
    for place in range(models):
        p = F.col(f"p_{place}")
        safe = F.greatest(F.least(p, F.lit(1 - 1e-12)), F.lit(1e-12))
        loss = -F.log(F.when(F.col("y") == 1, safe).otherwise(1 - safe))
        found += [
            F.sum(p).alias(f"sum_p_{place}"),
            F.sum(loss).alias(f"sum_logloss_{place}"),
            F.sum((p - F.col("y")) ** 2).alias(f"sum_squared_error_{place}"),
        ]
    return found


def _unstack(row: Any, ids: list[str], names: list[str]) -> Iterator[dict[str, Any]]:
    """One dictionary per model from a row of `_sums`."""
    for place, model_id in enumerate(ids):
        sums = {name: row[f"{name}_{place}"] for name in names}
        yield {"model_id": model_id, "n": row["n"], "conversions": row["conversions"], **sums}


def by_period(rows: DataFrame, ids: list[str], cycle: Cycle) -> list[dict[str, Any]]:
    """Rows of fact `period_metrics`."""
    areas = _auc(rows, ids, ["split", "period_no"])
    sums = rows.groupBy("split", "period_no").agg(*_sums(len(ids))).orderBy("split", "period_no").collect()
    found = []
    for row in sums:
        for sum_row in _unstack(row, ids, ["sum_p", "sum_logloss", "sum_squared_error"]):
            where = {"split": row["split"], "period": cycle.periods.day(row["period_no"])}
            area = areas.get((sum_row["model_id"], row["split"], row["period_no"]))
            found.append(sum_row | where | {"auc": area})
    return found


def overall_auc(rows: DataFrame, ids: list[str]) -> dict[tuple[str, str], float | None]:
    return _auc(rows, ids, ["split"])


def _auc(rows: DataFrame, ids: list[str], by: list[str]) -> dict[tuple, float | None]:
    """AUC per model and group from counts of rounded logits: exact but for ties within 1/16384 of a logit."""
    logit = lambda name: F.round(F.log(F.col(name) / (1 - F.col(name))) * LOGIT_STEPS).cast("int")  # noqa: E731
    pairs = F.array(*(F.struct(F.lit(i).alias("model"), logit(f"p_{i}").alias("score")) for i in range(len(ids))))
    counts = (
        rows.select(*by, "y", F.inline(pairs))
        .groupBy("model", *by, "score")
        .agg(F.sum("y").alias("pos"), F.sum(1 - F.col("y")).alias("neg"))
    )
    below = Window.partitionBy("model", *by).orderBy("score").rowsBetween(Window.unboundedPreceding, -1)
    counts = counts.withColumn("below", F.coalesce(F.sum("neg").over(below), F.lit(0)))
    wins = F.sum(F.col("pos") * (F.col("below") + F.col("neg") / 2))
    totals = counts.groupBy("model", *by).agg(wins.alias("wins"), F.sum("pos").alias("pos"), F.sum("neg").alias("neg"))
    return {
        (ids[row["model"]], *(row[name] for name in by)): row["wins"] / (row["pos"] * row["neg"])
        if row["pos"] and row["neg"]
        else None
        for row in totals.collect()
    }


def by_slice(rows: DataFrame, ids: list[str], cycle: Cycle) -> list[dict[str, Any]]:
    """Rows of fact `slice_metrics`, on test."""
    slices = cycle.contract.slices
    if not slices:
        return []
    pairs = F.array(
        *(
            F.struct(F.lit(s.name).alias("slice_type"), F.col(f"s_{s.name}").cast("string").alias("slice_value"))
            for s in slices
        )
    )
    sums = [name for name in rows.columns if name.startswith("p_")]
    long = rows.where("split = 'test'").select("y", "period_no", *sums, F.inline(pairs))
    collected = long.groupBy("slice_type", "slice_value", "period_no").agg(*_sums(len(ids))).collect()
    groups: dict[tuple, list[dict]] = {}
    for row in collected:
        for sum_row in _unstack(row, ids, ["sum_p", "sum_logloss"]):
            groups.setdefault((row["slice_type"], row["slice_value"], sum_row["model_id"]), []).append(sum_row)
    return [_slice_row(key, members, cycle.contract.slice_min_n) for key, members in sorted(groups.items())]


def _slice_row(key: tuple[str, str, str], members: list[dict], min_n: int) -> dict[str, Any]:
    total = {name: sum(m[name] for m in members) for name in ("n", "conversions", "sum_p", "sum_logloss")}
    lo, hi = calibration_interval(members)
    return {
        "slice_type": key[0],
        "slice_value": key[1],
        "model_id": key[2],
        **total,
        "calibration_ratio_lo": lo,
        "calibration_ratio_hi": hi,
        "min_n": min_n,
    }


def by_bin(rows: DataFrame, ids: list[str]) -> list[dict[str, Any]]:
    """Rows of fact `calibration_bins`: test rows in bins whose edges are quantiles of the calib rows."""
    calib, test = rows.where("split = 'calib'"), rows.where("split = 'test'")
    names = [f"p_{place}" for place in range(len(ids))]
    steps = [step / BINS for step in range(1, BINS)]
    edges = [sorted(set(found)) for found in calib.approxQuantile(names, steps, 1e-4)]

    def number(place: int) -> Column:
        above = [(F.col(names[place]) >= F.lit(edge)).cast("int") for edge in edges[place]]
        return sum(above[1:], above[0]) if above else F.lit(0)

    pairs = F.array(
        *(
            F.struct(F.lit(i).alias("model"), number(i).alias("bin"), F.col(names[i]).alias("p"))
            for i in range(len(ids))
        )
    )
    counted = (
        test.select("y", F.inline(pairs))
        .groupBy("model", "bin")
        .agg(F.count("*").alias("n"), F.sum("y").cast("long").alias("conversions"), F.sum("p").alias("sum_p"))
    )
    found = []
    for row in counted.orderBy("model", "bin").collect():
        bounds = [0.0, *edges[row["model"]], 1.0]
        found.append(
            {
                "model_id": ids[row["model"]],
                "bin": row["bin"],
                "p_lo": bounds[row["bin"]],
                "p_hi": bounds[row["bin"] + 1],
                "n": row["n"],
                "conversions": row["conversions"],
                "sum_p": row["sum_p"],
            }
        )
    return found


def scoring_cost(cycle: Cycle, spark: SparkSession, cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of fact `scoring_cost`: every candidate scores the same block of test rows, one after the other."""
    examples = cycle.dataset("examples")
    task = {"files": examples.under("split=test"), "fields": cycle.contract.field_names}
    size = {"rows": COST_ROWS, "repeats": COST_REPEATS}
    tasks = [task | size | {"folder": str(train.model_folder(cycle, card["model_id"]).resolve())} for card in cards]
    # One partition: models that share the memory bus would measure each other.
    measured = spark.sparkContext.parallelize(tasks, 1).map(workers.scoring_cost).collect()
    return [
        {"model_id": card["model_id"], "k": card["lineage"]["hyperparameters"].get("k", 0), **row}
        for card, rows in zip(cards, measured, strict=True)
        for row in rows
    ]


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("evaluate"))
