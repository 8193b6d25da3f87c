"""Job: score the valid, calib and test rows with every candidate and turn the predictions into facts.

Predictions stay on the executors; what reaches the driver are sums per model, period, slice and bin. Intervals are over
test periods (jobs/intervals.py), k is compared paired by period, and scoring cost is measured in a worker.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import FloatType, StructField, StructType

from ffm_udf import scoring
from jobs import decision_log, models, row_arrays
from jobs.calibrators import calibrated, calibrators
from jobs.comparison import ENOUGH_SEEDS, Decided, calibration_interval, compare_baselines, compare_k, with_intervals
from jobs.cycle import Cycle
from jobs.gate import load_gate
from jobs.lake import Dataset, sha256_json
from jobs.lineage import features
from jobs.policies import load_rates, load_value
from jobs.training_tasks import spans
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
        policy, margin = load_value(value), load_gate(gate).margin_relative_logloss
        params = {
            "models": [card["model_id"] for card in cards],
            "margin": margin,
            "slices": cycle.contract.part("slices", "slice_min_n"),
            "value": policy.sha,
            "shipping_seed": cycle.contract.grid.shipping_seed,
            "last_sweep": asdict(swept) if (swept := last_sweep(cycle, cards, margin)) else None,
        }
        names = ["period_metrics", "model_metrics", "k_comparison", "baseline_comparison", "slice_metrics"]
        names += ["calibration_bins", "scoring_cost", "value_periods", "value_comparison"]
        keys = {name: cycle.lake.key(name, __name__, {"predictions": predictions.content}, params) for name in names}
        if not all(cycle.lake.find(name, key) for name, key in keys.items()):
            found = measure(cycle, spark, predictions, cards, margin, policy)
            for name, key in keys.items():
                cycle.lake.write_fact(name, key, found[name])
        priced = load_rates(rates)
        keys["rates"] = cycle.lake.key("rates", __name__, {}, priced.sha)
        if cycle.lake.find("rates", keys["rates"]) is None:
            cycle.lake.write_fact("rates", keys["rates"], [priced.model_dump() | {"rates_sha": priced.sha}])
        cycle.remember(keys)
        log_sweep(cycle, cards, margin)
        write_openings(cycle)


def candidates(cycle: Cycle) -> list[dict[str, Any]]:
    """Cards of the compared models, by k, algorithm and seed, each with its `rehearsal_id`."""
    rows = cycle.dataset("models").table().to_pylist()
    rehearsals = {row["candidate_id"]: row["model_id"] for row in rows if row["role"] == "rehearsal"}
    return [
        models.read_card(cycle.warehouse, row["model_id"]) | {"rehearsal_id": rehearsals[row["model_id"]]}
        for row in sorted(rows, key=lambda r: (r["k"], r["algorithm"], r["seed"]))
        if row["role"] == "candidate"
    ]


def predict(cycle: Cycle, spark: SparkSession, cards: list[dict[str, Any]]) -> tuple[Dataset, bool]:
    """The data set `predictions`: the rows of valid, calib and test with a calibrated `p_<i>` per candidate.

    The candidate scores valid and calib, its rehearsal, which has learned from them, the test rows.
    A night learns its calibrator on the periods just before the one it scores, so every test period gets the
    calibrator of the `calib` periods before it (rolling origin), learned from logits of rows no candidate trained on.
    A champion that is held keeps the calibrator of the night that promoted it.
    """
    examples = cycle.dataset("examples")
    ids = [card["model_id"] for card in cards]

    def write(out: Path) -> None:
        root = str(examples.folder / examples.manifest["run"])
        for parts, name in ((("valid", "calib"), "model_id"), (("test",), "rehearsal_id")):
            folders = [str(models.model_folder(cycle.warehouse, card[name]).resolve()) for card in cards]
            paths = sorted({str(Path(file).parent) for file in examples.under(*(f"split={part}" for part in parts))})
            rows = spark.read.option("basePath", root).parquet(*paths)
            with_logits(rows, folders).write.partitionBy("split").mode("append").parquet(str(out))
        open_test(cycle, len(cards))

    params = [ids, [card["rehearsal_id"] for card in cards]]
    logits, _ = cycle.make("logits", __name__, {"examples": examples.content}, params, write)
    learned = calibrators(cycle, spark, logits, ids)

    def calibrate(out: Path) -> None:
        rows = spark.read.parquet(str(logits.folder / logits.manifest["run"]))
        calibrated(rows, learned, ids, cycle.periods.number).write.partitionBy("split").mode("append").parquet(str(out))

    inputs = {"logits": logits.content, "calibrators": cycle.dataset("calibrators").content}
    return cycle.make("predictions", __name__, inputs, ids, calibrate)


def write_openings(cycle: Cycle) -> None:
    """The fact `test_openings` of this contract up to this cycle."""
    rows = decision_log.openings(decision_log.entries(cycle.warehouse), cycle.contract.name, cycle.date)
    key = cycle.lake.key("test_openings", __name__, {"rows": sha256_json(rows)}, None)
    if cycle.lake.find("test_openings", key) is None:
        cycle.lake.write_fact("test_openings", key, rows)
    cycle.remember({"test_openings": key})


def terms_sha(cycle: Cycle, cards: list[dict[str, Any]], margin: float) -> str:
    """What a verdict on k rests on besides the rows and the k: fields, label, margin, and all that is frozen while k
    varies, as the models had it."""
    tasks = [card["task"] for card in cards if card["algorithm"] == "ffm"]
    frozen = {name: tasks[0][name] for name in ("window", "half_life")} | {"warm": tasks[0]["init"] is not None}
    frozen |= {n: v for n, v in tasks[0]["hyperparameters"].items() if n not in ("k", "seed")}
    return sha256_json([features(cycle.contract), cycle.contract.part("min_count", "label"), frozen, margin])


def last_sweep(cycle: Cycle, cards: list[dict[str, Any]], margin: float) -> Decided | None:
    """The verdict that a night with few seeds goes by; a night with enough of them decides itself."""
    seeds = {card["task"]["hyperparameters"]["seed"] for card in cards if card["algorithm"] == "ffm"}
    if len(seeds) >= ENOUGH_SEEDS:
        return None
    terms = terms_sha(cycle, cards, margin)
    found = decision_log.last_sweep(cycle.warehouse, cycle.contract.name, cycle.date, terms)
    return Decided(found["k"], dt.date.fromisoformat(found["cycle_date"])) if found else None


def log_sweep(cycle: Cycle, cards: list[dict[str, Any]], margin: float) -> None:
    """Log the verdict of a night with enough seeds; later nights with fewer keep it."""
    rows = cycle.dataset("k_comparison").table().to_pylist()
    chosen = next(row for row in rows if row["is_verdict"])
    if chosen["n_seeds"] < ENOUGH_SEEDS:
        return
    said = {name: chosen[name] for name in ("k", "best_k", "n_seeds", "n_periods", "margin")}
    about = {
        "contract": cycle.contract.name,
        "cycle_date": str(cycle.date),
        "terms_sha": terms_sha(cycle, cards, margin),
    }
    decision_log.append_sweep(cycle.warehouse, {**about, **said, "ks": [row["k"] for row in rows]})


def open_test(cycle: Cycle, scored: int) -> None:
    """Log that the test periods were looked at: who looks often enough finds something by chance."""
    rows = cycle.dataset("label_rates").table().to_pylist()
    days = [row["period"] for row in rows if row["split"] == "test"]
    opened = {"contract": cycle.contract.name, "cycle_date": str(cycle.date), "models": scored}
    decision_log.append_opening(cycle.warehouse, opened, min(days), max(days))


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
            columns += [pa.array(scoring.opened(folder).score(X)[0]) for folder in folders]
            yield pa.RecordBatch.from_arrays(columns, names=names)

    return rows.mapInArrow(score, schema)


def measure(
    cycle: Cycle, spark: SparkSession, predictions: Dataset, cards: list[dict[str, Any]], margin: float, policy: Any
) -> dict[str, list[dict]]:
    """All evaluation facts, computed from the predictions; slices, bins, costs and value of the seed that ships."""
    root = str(predictions.folder / predictions.manifest["run"])
    rows = spark.read.parquet(root).persist()
    ids, seed = [card["model_id"] for card in cards], cycle.contract.grid.shipping_seed
    shown = [card for card in cards if card["task"]["hyperparameters"].get("seed", seed) == seed]
    places = {card["model_id"]: ids.index(card["model_id"]) for card in shown}
    try:
        period_sums = by_period(rows, ids, cycle)
        metrics = with_intervals(period_sums, areas(rows, ids, ["split"]))
        compared = compare_k(period_sums, cards, margin, seed, last_sweep(cycle, cards, margin))
        verdict = next(row["model_id"] for row in compared if row["is_verdict"])
        value_periods, value_comparison = value_facts(rows, ids, ids.index(verdict), cards, cycle, policy)
        return {
            "period_metrics": period_sums,
            "model_metrics": metrics,
            "k_comparison": compared,
            "baseline_comparison": compare_baselines(period_sums, cards, verdict),
            "slice_metrics": by_slice(rows, places, cycle),
            "calibration_bins": by_bin(rows, places),
            "scoring_cost": scoring_cost(cycle, spark, shown),
            "value_periods": value_periods,
            "value_comparison": value_comparison,
        }
    finally:
        rows.unpersist()


def _sums(places: Iterable[int]) -> list[Column]:
    """n, conversions and, per model's place, the sums of p, logloss and squared error."""
    found = [F.count("*").alias("n"), F.sum("y").cast("long").alias("conversions")]
    for place in places:
        p = F.col(f"p_{place}")
        safe = F.greatest(F.least(p, F.lit(1 - 1e-12)), F.lit(1e-12))
        loss = -F.log(F.when(F.col("y") == 1, safe).otherwise(1 - safe))
        found += [
            F.sum(p).alias(f"sum_p_{place}"),
            F.sum(loss).alias(f"sum_logloss_{place}"),
            F.sum((p - F.col("y")) ** 2).alias(f"sum_squared_error_{place}"),
        ]
    return found


def _unstack(row: Any, places: dict[str, int], names: list[str]) -> Iterator[dict[str, Any]]:
    """One dictionary per model from a row of `_sums`."""
    for model_id, place in places.items():
        sums = {name: row[f"{name}_{place}"] for name in names}
        yield {"model_id": model_id, "n": row["n"], "conversions": row["conversions"], **sums}


def by_period(rows: DataFrame, ids: list[str], cycle: Cycle) -> list[dict[str, Any]]:
    """Rows of fact `period_metrics`."""
    found_areas = areas(rows, ids, ["split", "period_no"])
    places = {model_id: place for place, model_id in enumerate(ids)}
    sums = rows.groupBy("split", "period_no").agg(*_sums(places.values())).orderBy("split", "period_no").collect()
    found = []
    for row in sums:
        for sum_row in _unstack(row, places, ["sum_p", "sum_logloss", "sum_squared_error"]):
            where = {"split": row["split"], "period": cycle.periods.day(row["period_no"])}
            auc, _ = found_areas[sum_row["model_id"], row["split"], row["period_no"]]
            found.append(sum_row | where | {"auc": auc})
    return found


def areas(rows: DataFrame, ids: list[str], by: list[str]) -> dict[tuple, tuple[float | None, float | None]]:
    """AUC and PR-AUC (average precision) per model and group, from counts of rounded logits: exact but for ties within
    1/16384 of a logit."""
    logit = lambda name: F.round(F.log(F.col(name) / (1 - F.col(name))) * LOGIT_STEPS).cast("int")  # noqa: E731
    pairs = F.array(*(F.struct(F.lit(i).alias("model"), logit(f"p_{i}").alias("score")) for i in range(len(ids))))
    counts = (
        rows.select(*by, "y", F.inline(pairs))
        .groupBy("model", *by, "score")
        .agg(F.sum("y").alias("pos"), F.sum(1 - F.col("y")).alias("neg"))
    )
    # What lies above is all but what lies below: Spark adds up a frame that shrinks anew for every row.
    whole = Window.partitionBy("model", *by)
    below = whole.orderBy("score").rowsBetween(Window.unboundedPreceding, -1)
    for name in ("pos", "neg"):
        under = F.coalesce(F.sum(name).over(below), F.lit(0))
        counts = counts.withColumn(f"{name}_up", F.sum(name).over(whole) - under)
    precision = F.col("pos_up") / (F.col("pos_up") + F.col("neg_up"))
    # Pairs that are ordered wrongly: a negative with a higher score, half of those with the same.
    wrong = F.sum(F.col("pos") * (F.col("neg_up") - F.col("neg") / 2))
    totals = counts.groupBy("model", *by).agg(
        wrong.alias("wrong"),
        F.sum(F.col("pos") * precision).alias("precisions"),
        F.sum("pos").alias("pos"),
        F.sum("neg").alias("neg"),
    )
    found: dict[tuple, tuple[float | None, float | None]] = {}
    for row in totals.collect():
        auc = 1 - row["wrong"] / (row["pos"] * row["neg"]) if row["pos"] and row["neg"] else None
        key = (ids[row["model"]], *(row[name] for name in by))
        found[key] = auc, row["precisions"] / row["pos"] if row["pos"] else None
    return found


def by_slice(rows: DataFrame, places: dict[str, int], cycle: Cycle) -> list[dict[str, Any]]:
    """Rows of fact `slice_metrics`, on test; `places` says which p_<i> is which model's."""
    slices = cycle.contract.slices
    if not slices:
        return []
    pairs = F.array(
        *(
            F.struct(F.lit(s.name).alias("slice_type"), F.col(f"s_{s.name}").cast("string").alias("slice_value"))
            for s in slices
        )
    )
    sums = [f"p_{place}" for place in places.values()]
    long = rows.where("split = 'test'").select("y", "period_no", *sums, F.inline(pairs))
    collected = long.groupBy("slice_type", "slice_value", "period_no").agg(*_sums(places.values())).collect()
    groups: dict[tuple, list[dict]] = {}
    for row in collected:
        for sum_row in _unstack(row, places, ["sum_p", "sum_logloss"]):
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


def by_bin(rows: DataFrame, places: dict[str, int]) -> list[dict[str, Any]]:
    """Rows of fact `calibration_bins`: test rows in bins whose edges are quantiles of the calib rows."""
    calib, test = rows.where("split = 'calib'"), rows.where("split = 'test'")
    ids, names = list(places), [f"p_{place}" for place in places.values()]
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
    task = {"rows": row_arrays.folder_of(cycle.dataset("rows")), "periods": spans(cycle)["test"]}
    size = {"limit": COST_ROWS, "repeats": COST_REPEATS}
    folders = [models.model_folder(cycle.warehouse, card["model_id"]).resolve() for card in cards]
    tasks = [task | size | {"folder": str(folder)} for folder in folders]
    # One partition: models that share the memory bus would measure each other.
    measured = spark.sparkContext.parallelize(tasks, 1).map(scoring.scoring_cost).collect()
    return [
        {"model_id": card["model_id"], "k": card["task"]["hyperparameters"].get("k", 0), **row}
        for card, rows in zip(cards, measured, strict=True)
        for row in rows
    ]


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("evaluate"))
