"""The calibrators of a cycle: each period gets the one learned on the periods just before it (rolling origin).

The method of a model is chosen on the calib periods (jobs/calibrator_choice.py) and is the same for all its periods.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from ffm_udf import calibration
from ffm_udf import card as cards
from ffm_udf.calibration_methods import METHODS
from ffm_udf.judged_rows import JudgedRows
from ffm_udf.predictions import logits_file, opened
from jobs import calibrator_choice
from jobs.contract import ContractError
from jobs.cycle import Cycle
from jobs.judged import Entrant, Judged
from jobs.lake import Dataset, sha256_json


def calibrators(
    cycle: Cycle, spark: SparkSession, rows: Dataset, logits: Dataset, entrants: Sequence[Entrant]
) -> Dataset:
    """Data set `calibrators`: model_id, period (of test, and the scoring period) and the calibrator in force then, as
    JSON text that `calibration.load` reads. `logits` of the judged `rows`, in the order of the `entrants`."""
    params, ids = _params(cycle), [entrant.model_id for entrant in entrants]
    shifts = [level_shift(entrant) for entrant in entrants]

    def write(out: Path) -> None:
        common = {"judged": str(rows.root), "logits": str(logits.root), **params}
        tasks = [common | {"place": place, "shift": shift} for place, shift in enumerate(shifts)]
        fitted = spark.sparkContext.parallelize(tasks, len(tasks)).map(fit_for).collect()
        found = [
            {"model_id": model_id, "period": cycle.periods.day(period), "calibrator": json.dumps(calibrator)}
            for model_id, mine in zip(ids, fitted, strict=True)
            for period, calibrator in sorted(mine.items())
        ]
        pq.write_table(pa.Table.from_pylist(found), out / "part-0.parquet")

    return cycle.make(
        "calibrators", __name__, {"logits": logits.content}, params | {"ids": ids, "shifts": shifts}, write
    )[0]


def level_shift(entrant: Entrant) -> float:
    """By how much the rehearsal's log-odds lie above the candidate's where both are calibrated on calib: what a
    calibrator learned from the candidate lacks for the rehearsal (`calibration.levelled`)."""
    mine, theirs = (cards.read(folder)["calibrator"] for folder in (entrant.rehearsal, entrant.candidate))
    return mine["intercept"] - theirs["intercept"]


def comparison(judged: Judged, places: dict[str, int]) -> list[dict[str, Any]]:
    """Rows of fact `calibrator_comparison` for the models at `places` (by id)."""
    common, shifts = judged.task(**_params(judged.cycle)), judged.shifts
    found = judged.run(compare_for, [common | {"place": at, "shift": shifts[at]} for at in places.values()])
    return [{"model_id": model_id, **row} for model_id, mine in zip(places, found, strict=True) for row in mine]


def fit_for(task: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The calibrator of every target period, as a dict for JSON, of the model at `place`.

    `task`: folders judged and logits, place, windows (target -> periods it learns from), calib (periods), maturity,
    shift (`level_shift`, of calibrators learned on calib).
    """
    rows, z = JudgedRows.open(task["judged"]), np.load(logits_file(task["logits"], task["place"]), mmap_mode="r")
    tried = calibrator_choice.trial_windows(task["calib"], task["maturity"])
    # Without two periods to judge by the choice is Platt's, whatever the others would have done.
    methods = METHODS if len(tried) > 1 else (calibrator_choice.DEFAULT,)
    trials = {method: calibrator_choice.rolled(method, z, rows.y, rows.periods, tried) for method in methods}
    method, _ = calibrator_choice.choose(trials)
    return {
        int(target): calibration.as_dict(
            calibrator_choice.learned(method, z, rows.y, rows.periods, periods, shift_of(task, periods))
        )
        for target, periods in task["windows"].items()
    }


def shift_of(task: dict[str, Any], periods: Sequence[int]) -> float:
    """The task's shift if the candidate's logits of `periods` are what is learned from, else 0."""
    return task["shift"] if periods[0] in task["calib"] else 0.0


def compare_for(task: dict[str, Any]) -> list[dict[str, Any]]:
    """All methods of the model at `place`: rows of fact `calibrator_comparison` but for its id.

    `task`: as for `fit_for`, with the folder predictions in place of logits.
    """
    rows, predictions = opened(task)
    tested = {target: periods for target, periods in task["windows"].items() if target in rows.periods_of("test")}
    z = predictions.logits(task["place"])
    shifts = {target: shift_of(task, periods) for target, periods in tested.items()}
    return calibrator_choice.compared(z, rows.y, rows.periods, task["calib"], tested, task["maturity"], shifts)


def _params(cycle: Cycle) -> dict[str, Any]:
    """What the choice and the fits depend on beside the rows."""
    return {
        "windows": calibration_windows(cycle),
        "calib": _periods(cycle, "calib"),
        "maturity": cycle.periods.maturity,
        "tolerance": calibrator_choice.TOLERANCE,
    }


def calibration_windows(cycle: Cycle) -> dict[int, list[int]]:
    """For each test period and the scoring period, the periods its calibrator learns from.

    As many as `calib` has, the last whose labels are final when the target starts; test periods alone as soon as there
    is one. The rehearsal scores them, as it scores the target, and the candidate scores calib: their levels of p can
    differ by a fifth, and a calibrator of both fits neither. Raises ContractError if there are none: scores would go
    out uncalibrated.
    """
    calib, test = _periods(cycle, "calib"), _periods(cycle, "test")
    usable, found = sorted(calib + test), {}
    for target in [*test, cycle.periods.scoring]:
        final = [number for number in usable if number < target - cycle.periods.maturity]
        final = [number for number in final if number in test] or final
        if not final:
            raise ContractError(
                f"split.calib must end at least {cycle.periods.maturity} periods before split.test, for its labels to "
                f"be final: no calibrator can be learned for {cycle.periods.day(target)}"
            )
        found[target] = final[-len(calib) :]
    return found


def _periods(cycle: Cycle, part: str) -> list[int]:
    rates = cycle.dataset("label_rates").table().to_pylist()
    return [cycle.periods.number(row["period"]) for row in rates if row["split"] == part]


def serving_calibrator(cycle: Cycle, model_id: str) -> dict[str, Any]:
    """The calibrator for the scoring period, learned on the last matured periods from the logits of candidate
    `model_id`'s rehearsal; what `calibration.load` reads."""
    [row] = [
        row
        for row in cycle.dataset("calibrators").table().to_pylist()
        if row["model_id"] == model_id and row["period"] == cycle.periods.day(cycle.periods.scoring)
    ]
    return json.loads(row["calibrator"])


def calibrator_id(calibrator: dict[str, Any]) -> str:
    """Method and hash."""
    method = calibrator.get("method", "platt")
    return f"{'logistic' if method == 'platt' else method}-{sha256_json(calibrator)[:8]}"
