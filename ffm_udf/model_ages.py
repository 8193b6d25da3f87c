"""Two trainings of the same model, of different age, on the same test rows: sums per period. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffm_udf import calibration_methods
from ffm_udf.metrics import row_logloss
from ffm_udf.predictions import opened
from ffm_udf.scoring import STEP
from ffm_udf.scoring import opened as opened_model


def age_sums(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Per test period and version of the model at `place`: `version`, `period_no`, rows, conversions, sums of p and of
    logloss. The `newer` version is what the evaluation judged; the `older` one is the model in `folder`, which did not
    learn from the periods between.

    Both are calibrated by the same method on the periods that `windows` gives (target -> periods before it), each on
    its own logits: what is compared is a model that was left alone, not its calibrator.

    task: folders judged and predictions, `place`, `folder`, `windows`.
    """
    rows, predictions = opened(task)
    test = rows.splits["test"]
    older = np.array(predictions.logits(task["place"]))  # of the older one already where it was not learned from
    model = opened_model(task["folder"])
    for start in range(test.start, test.stop, STEP):
        part = slice(start, min(start + STEP, test.stop))
        older[part] = model.score(np.asarray(rows.X[part]))[0]
    known, found = predictions.calibrators[task["place"]], []
    for number in rows.periods_of("test"):
        here = rows.periods[number]
        spans = [rows.periods[n] for n in task["windows"][number] if n in rows.periods]
        z, seen = (np.concatenate([column[span] for span in spans]) for column in (older, rows.y))
        calibrator = calibration_methods.fit(known[number].get("method", "platt"), z, seen)
        y = np.asarray(rows.y[here])
        for version, p in (("newer", predictions.p(task["place"], here)), ("older", calibrator(older[here]))):
            found.append(
                {"version": version, "period_no": number, "n": len(y), "conversions": int(y.sum())}
                | {"sum_p": float(p.sum()), "sum_logloss": float(row_logloss(y, p).sum())}
            )
    return found
