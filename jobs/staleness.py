"""Job: what it costs to serve scores that are some periods old, measured on the test periods.

The model is the one of the verdict as its rehearsal, which never learned from a test row. At lag L every row of period
t is scored as at the start of period t - L: history counts only events of periods before t - L, and the calibrator is
the one in force then (before the first test period, that period's). What is static or planned stays as it is. All lags
score the same rows, so differences to lag 0 are paired by period.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StructField, StructType

from ffm_udf import calibration, scoring
from jobs import intervals, models
from jobs.comparison import calibration_interval, shown
from jobs.cycle import Cycle
from jobs.encode import base_rate, contents, encoded, events, keys, label, values
from jobs.history import Events
from jobs.lake import Dataset
from jobs.policies import load_value

LAGS = 4  # periods that scores are old at most
SUMS = ("n", "conversions", "sum_p", "sum_logloss", "contacted", "captured")


def run(cycle: Cycle, spark: SparkSession, value: Path, lags: int = LAGS) -> Dataset:
    """Make the fact `staleness_cost` for scores of 0 to `lags` periods; fewer where the data begin too late for it.

    `value`: the policy file that says how many entities are contacted per candidate and period.
    """
    with cycle.stage("staleness") as stage:
        candidate, rehearsal = shipping(cycle)
        budget, ages = load_value(value).budget_top_n, ages_of(cycle, lags)
        used = ("examples", "vocabulary", "calibrators", "label_rates")
        inputs = contents(cycle) | {name: cycle.dataset(name).content for name in used}
        params = {"candidate": candidate, "rehearsal": rehearsal, "ages": ages, "budget_top_n": budget}
        params |= cycle.contract.part("fields", "label", "history_smoothing", "period", "entity", "candidate", "match")
        key = cycle.lake.key("staleness_cost", __name__, inputs, params)
        reused = cycle.lake.find("staleness_cost", key) is not None
        if not reused:
            tables = events(cycle, spark)
            learned = cycle.dataset("calibrators").table().to_pylist()
            mine = {cycle.periods.number(r["period"]): r["calibrator"] for r in learned if r["model_id"] == candidate}
            rows = encoded(aged(cycle, tables, ages), cycle.dataset("vocabulary").table())
            scored = with_p(rows, str(models.model_folder(cycle.warehouse, rehearsal).resolve()), mine)
            cycle.lake.write_fact("staleness_cost", key, costs(cycle, candidate, by_age(scored, budget), budget))
        cycle.remember({"staleness_cost": key})
        stage.made(cycle.dataset("staleness_cost"), reused)
    return cycle.dataset("staleness_cost")


def shipping(cycle: Cycle) -> tuple[str, str]:
    """Ids of the verdict's candidate of the seed that ships, and of its rehearsal."""
    verdict = shown(cycle.dataset("k_comparison").table().to_pylist())["model_id"]
    rows = cycle.dataset("models").table().to_pylist()
    [rehearsal] = [row["model_id"] for row in rows if (row["role"], row["candidate_id"]) == ("rehearsal", verdict)]
    return verdict, rehearsal


def ages_of(cycle: Cycle, lags: int) -> list[int]:
    """0 to `lags`, as far as the first test period has a period of data before the one it would be scored in."""
    rates = cycle.dataset("label_rates").table().to_pylist()
    first = cycle.periods.number(min(row["period"] for row in rates))
    tested = cycle.periods.number(min(row["period"] for row in rates if row["split"] == "test"))
    return list(range(min(lags, tested - first - 1) + 1))


def aged(cycle: Cycle, tables: Events, ages: list[int]) -> DataFrame:
    """Every exposure of the test periods once per age, with its fields' values as of `period_no` = served_no - lag."""
    contract, rates = cycle.contract, cycle.dataset("label_rates").table()
    tested = [cycle.periods.number(row["period"]) for row in rates.to_pylist() if row["split"] == "test"]
    rows = (
        tables["exposures"]
        .where(F.col("period_no").isin(tested))
        .withColumn("y", label(contract))  # while period_no is still that of the exposure
        .withColumn("served_no", F.col("period_no"))
        .withColumn("lag", F.explode(F.array(*(F.lit(age) for age in ages))))
        .withColumn("period_no", F.col("served_no") - F.col("lag"))
    )
    exposed = F.col(contract.exposure_time).alias("exposure_time")
    keep: list[Column | str] = ["lag", "served_no", "period_no", "y", exposed, *keys(contract)]
    return values(rows, contract, cycle.periods, tables, base_rate(rates), keep)


def with_p(rows: DataFrame, folder: str, calibrators: dict[int, str]) -> DataFrame:
    """`rows` without their feature ids, with `p` of the model in `folder`: calibrated as JSON `calibrators` say for the
    row's `period_no`, before the first of them as that one says."""
    names = [name for name in rows.columns if name.startswith("f_")]
    kept = [name for name in rows.columns if not name.startswith("f_")]
    schema = StructType([*(rows.schema[name] for name in kept), StructField("p", DoubleType())])

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        known = {number: calibration.load(json.loads(text)) for number, text in calibrators.items()}
        for batch in batches:
            X = np.column_stack([batch.column(name).to_numpy() for name in names])
            period, p = batch.column("period_no").to_numpy(), np.empty(len(X))
            logits = scoring.opened(folder).score(X)[0]
            for number in np.unique(period).tolist():
                here = period == number
                p[here] = known[max(number, min(known))](logits[here])
            columns = [*(batch.column(name) for name in kept), pa.array(p)]
            yield pa.RecordBatch.from_arrays(columns, names=[*kept, "p"])

    return rows.mapInArrow(score, schema)


def by_age(scored: DataFrame, budget: int) -> list[dict[str, Any]]:
    """Sums per lag and served period, from rows with `p`. Captured are the conversions of the `budget` entities of a
    candidate and period with the highest p, ties broken as in jobs/value.py."""
    p, y = F.col("p"), F.col("y")
    safe = F.greatest(F.least(p, F.lit(1 - 1e-12)), F.lit(1e-12))
    order = Window.partitionBy("lag", "served_no", "candidate_id").orderBy(
        F.desc("p"), F.xxhash64("entity_id", "match_id", "exposure_time")
    )
    is_contacted = (F.row_number().over(order) <= budget).cast("int")
    sums = (
        scored.withColumn("contacted", is_contacted)
        .groupBy("lag", "served_no")
        .agg(
            F.count("*").alias("n"),
            F.sum(y).cast("long").alias("conversions"),
            F.sum(p).alias("sum_p"),
            F.sum(-F.log(F.when(y == 1, safe).otherwise(1 - safe))).alias("sum_logloss"),
            F.sum("contacted").cast("long").alias("contacted"),
            F.sum(F.col("contacted") * y).cast("long").alias("captured"),
        )
    )
    return [row.asDict() for row in sums.orderBy("lag", "served_no").collect()]


def costs(cycle: Cycle, model_id: str, sums: list[dict[str, Any]], budget: int) -> list[dict[str, Any]]:
    """Rows of fact `staleness_cost` from the sums per lag and period; intervals are t intervals over the periods."""
    by_lag: dict[int, list[dict[str, Any]]] = {}
    for row in sums:
        by_lag.setdefault(row["lag"], []).append(row)
    served = [row["served_no"] for row in by_lag[0]]
    about = {
        "model_id": model_id,
        "period_days": cycle.contract.period.days,
        "budget_top_n": budget,
        "test_from": cycle.periods.day(min(served)),
        "test_through": cycle.periods.day(max(served)),
        "n_periods": len(served),
    }
    return [
        about
        | {"lag_periods": lag, "is_reference": lag == 0}
        | {name: sum(row[name] for row in members) for name in SUMS}
        | against(members, by_lag[0])
        for lag, members in sorted(by_lag.items())
    ]


def against(members: list[dict[str, Any]], fresh: list[dict[str, Any]]) -> dict[str, float | None]:
    """Differences of one lag to lag 0, both one row per period in the same order."""
    loss, loss_fresh = (_column(rows, "sum_logloss") for rows in (members, fresh))
    caught, caught_fresh = (_column(rows, "captured") for rows in (members, fresh))
    per_row = intervals.ratio(loss - loss_fresh, _column(fresh, "n"))
    relative = intervals.ratio(loss - loss_fresh, loss_fresh)
    missed = intervals.total(caught - caught_fresh)
    share: tuple[float | None, ...] = (None, None, None)  # of nothing
    if caught_fresh.any():
        found = intervals.ratio(caught - caught_fresh, caught_fresh)
        share = (found.value, found.lo, found.hi)
    lo, hi = calibration_interval(members)
    return {
        "delta_logloss": per_row.value,
        "delta_lo": per_row.lo,
        "delta_hi": per_row.hi,
        "delta_relative": relative.value,
        "delta_relative_lo": relative.lo,
        "delta_relative_hi": relative.hi,
        "calibration_ratio_lo": lo,
        "calibration_ratio_hi": hi,
        "captured_delta": missed.value,
        "captured_delta_lo": missed.lo,
        "captured_delta_hi": missed.hi,
        "captured_relative": share[0],
        "captured_relative_lo": share[1],
        "captured_relative_hi": share[2],
    }


def _column(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], np.float64)


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("staleness"))
