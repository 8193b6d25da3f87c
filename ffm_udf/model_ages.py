"""Two trainings of the same model, of different age, on the same test rows: sums per period. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffm_udf import calibration_methods
from ffm_udf.judged_rows import JudgedRows
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
    model, older = opened_model(task["folder"]), dict[int, np.ndarray]()
    known, found = predictions.calibrators[task["place"]], []
    for number in rows.periods_of("test"):
        here = rows.periods[number]
        before = [n for n in task["windows"][number] if n in rows.periods]
        # Of a long test only the periods of the window are held.
        older = {
            n: older[n] if n in older else _older_logits(rows, predictions.logits(task["place"]), model, n)
            for n in (*before, number)
        }
        z = np.concatenate([older[n] for n in before])
        seen = np.concatenate([rows.y[rows.periods[n]] for n in before])
        calibrator = calibration_methods.fit(known[number].get("method", "platt"), z, seen)
        y = np.asarray(rows.y[here])
        for version, p in (("newer", predictions.p(task["place"], here)), ("older", calibrator(older[number]))):
            found.append(
                {"version": version, "period_no": number, "n": len(y), "conversions": int(y.sum())}
                | {"sum_p": float(p.sum()), "sum_logloss": float(row_logloss(y, p).sum())}
            )
    return found


def _older_logits(rows: JudgedRows, judged: np.ndarray, model: Any, number: int) -> np.ndarray:
    """Logits of the older version for the rows of a period, float32: `judged` has them where it did not learn from the
    rows, before the test."""
    span = rows.periods[number]
    if span.stop <= rows.splits["test"].start:
        return np.asarray(judged[span])
    starts = range(span.start, span.stop, STEP)
    return np.concatenate([model.score(np.asarray(rows.X[at : min(at + STEP, span.stop)]))[0] for at in starts])
