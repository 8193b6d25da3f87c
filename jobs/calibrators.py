"""The calibrators of a cycle: each period gets the one learned on the periods just before it (rolling origin)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ffm_udf import scoring
from jobs.contract import ContractError
from jobs.cycle import Cycle
from jobs.lake import Dataset, sha256_json


def calibrators(cycle: Cycle, spark: SparkSession, logits: Dataset, ids: list[str]) -> list[dict[str, Any]]:
    """Data set `calibrators`: model_id, period (of test, and the scoring period), slope and intercept in force then."""
    windows = calibration_windows(cycle)

    def write(out: Path) -> None:
        files = logits.under("split=calib", "split=test")
        tasks = [{"files": files, "column": f"z_{place}", "windows": windows} for place in range(len(ids))]
        fitted = spark.sparkContext.parallelize(tasks, len(tasks)).map(scoring.fit_calibrators).collect()
        rows = [
            {"model_id": model_id, "period": cycle.periods.day(period), "slope": slope, "intercept": intercept}
            for model_id, found in zip(ids, fitted, strict=True)
            for period, (slope, intercept) in sorted(found.items())
        ]
        pq.write_table(pa.Table.from_pylist(rows), out / "part-0.parquet")

    params = {str(target): periods for target, periods in windows.items()}
    found, _ = cycle.make("calibrators", __name__, {"logits": logits.content}, params, write)
    return found.table().to_pylist()


def calibration_windows(cycle: Cycle) -> dict[int, list[int]]:
    """For each test period and the scoring period, the periods its calibrator learns from.

    As many as `calib` has, the last whose labels are final when the target starts. Raises ContractError if there are
    none: scores would go out uncalibrated.
    """
    rates = cycle.dataset("label_rates").table().to_pylist()
    split = {
        part: [cycle.periods.number(r["period"]) for r in rates if r["split"] == part] for part in ("calib", "test")
    }
    usable, found = sorted(split["calib"] + split["test"]), {}
    for target in [*split["test"], cycle.periods.scoring]:
        final = [number for number in usable if number < target - cycle.periods.maturity]
        if not final:
            raise ContractError(
                f"split.calib must end at least {cycle.periods.maturity} periods before split.test, for its labels to "
                f"be final: no calibrator can be learned for {cycle.periods.day(target)}"
            )
        found[target] = final[-len(split["calib"]) :]
    return found


def serving_calibrator(cycle: Cycle, model_id: str) -> dict[str, float]:
    """Slope and intercept for the scoring period, learned on the last matured periods from the logits of candidate
    `model_id`'s rehearsal."""
    [row] = [
        row
        for row in cycle.dataset("calibrators").table().to_pylist()
        if row["model_id"] == model_id and row["period"] == cycle.periods.day(cycle.periods.scoring)
    ]
    return {"slope": row["slope"], "intercept": row["intercept"]}


def calibrated(
    rows: DataFrame, learned: list[dict[str, Any]], ids: list[str], number: Callable[[Any], int]
) -> DataFrame:
    """`p_<i>` in place of `z_<i>`; periods before the first test period get that one's calibrator."""
    kept = [name for name in rows.columns if not name.startswith("z_")]
    columns = []
    for place, model_id in enumerate(ids):
        mine = sorted(
            (number(row["period"]), row["slope"], row["intercept"]) for row in learned if row["model_id"] == model_id
        )
        slope, intercept = (
            F.coalesce(
                F.create_map(*(F.lit(x) for row in mine for x in (row[0], row[which])))[F.col("period_no")],
                F.lit(mine[0][which]),
            )
            for which in (1, 2)
        )
        z = F.col(f"z_{place}").cast("double") * slope + intercept
        columns.append((1 / (1 + F.exp(-z))).alias(f"p_{place}"))
    return rows.select(*kept, *columns)


def calibrator_id(calibrator: dict[str, float]) -> str:
    return f"logistic-{sha256_json(calibrator)[:8]}"
