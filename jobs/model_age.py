"""What it costs not to train: the test periods judged by the model and by its training of some periods before.

Later test periods are older for any model, but they are other periods as well. So the effect of age is taken where it
is not mixed up with the calendar: the candidate, which learned through `train`, and its rehearsal, which learned
through `calib`, judge the same rows, paired by period. The course over the test periods is shown beside it and is not
an effect of age alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from ffm_udf.metrics import entropy
from ffm_udf.model_ages import age_sums
from jobs import intervals, models
from jobs.calibrators import calibration_windows
from jobs.judged import Judged

Rows = list[dict[str, Any]]


def model_age_facts(rows: Judged, place: int) -> dict[str, Rows]:
    """Rows of the facts `model_age` and `model_age_effect` for the model at `place`."""
    cycle, model_id = rows.cycle, rows.ids[place]
    trained = {
        row["role"]: row for row in cycle.dataset("models").table().to_pylist() if row["candidate_id"] == model_id
    }
    through = {"older": trained["candidate"]["train_through"], "newer": trained["rehearsal"]["train_through"]}
    folder = str(models.model_folder(cycle.warehouse, trained["candidate"]["model_id"]).resolve())
    [sums] = rows.run(age_sums, [rows.task(place=place, folder=folder, windows=calibration_windows(cycle))])
    about = {"model_id": model_id, "period_days": cycle.contract.period.days}
    found = [
        about
        | {"version": row["version"], "train_through": through[row["version"]]}
        | {"period": cycle.periods.day(row["period_no"])}
        | {"age_periods": row["period_no"] - cycle.periods.number(through[row["version"]])}
        | {name: row[name] for name in ("n", "conversions", "sum_p", "sum_logloss")}
        for row in sums
    ]
    return {"model_age": found, "model_age_effect": [about | row for row in effects(found)]}


def effects(rows: Rows) -> Rows:
    """Rows of fact `model_age_effect`: `paired`, logloss of the older version minus that of the newer one on the same
    rows; `course`, the trend of the newer one's normalized entropy over its ages (least squares over the periods).

    `change` is a share of the newer version's loss per `age_periods`, with 95 % t intervals over the periods.
    """
    newer, older = ([row for row in rows if row["version"] == version] for version in ("newer", "older"))
    gap = older[0]["age_periods"] - newer[0]["age_periods"]
    loss, before = (np.array([row["sum_logloss"] for row in side]) for side in (newer, older))
    paired = intervals.ratio(before - loss, loss)
    found = [_effect("paired", gap, paired.value, paired.lo, paired.hi, len(newer))]
    usable = [row for row in newer if 0 < row["conversions"] < row["n"]]
    if len(usable) > 2:
        age = np.array([row["age_periods"] for row in usable], np.float64)
        relative = np.array([row["sum_logloss"] / row["n"] / entropy(row["conversions"] / row["n"]) for row in usable])
        fit = stats.linregress(age, relative / relative.mean())
        half = stats.t.ppf(0.975, len(usable) - 2) * fit.stderr
        found.append(_effect("course", 1, fit.slope, fit.slope - half, fit.slope + half, len(usable)))
    return found


def _effect(
    kind: str, age_periods: int, change: float, lo: float | None, hi: float | None, n_periods: int
) -> dict[str, Any]:
    ends = {"change": float(change), "change_lo": lo and float(lo), "change_hi": hi and float(hi)}
    return {"kind": kind, "age_periods": age_periods, **ends, "n_periods": n_periods}
