"""What runs inside a scoring task on an executor: open a finished model, score rows, measure it. Nothing trains here
but the two numbers of a calibrator."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ffm_udf import card as cards
from ffm_udf.calibration import Calibrator
from ffm_udf.calibration import fit as fit_calibrator
from ffm_udf.cost import measured
from ffm_udf.row_store import RowStore
from ffm_udf.scorer import open_model


class ScoringModel:
    """A finished model folder, memory-mapped: logits and calibrated p of encoded rows.

    Raises OSError if a file is missing and ValueError if its bytes are not those that were written.
    """

    loads: ClassVar[Counter[str]] = Counter()  # by folder

    def __init__(self, folder: str) -> None:
        card = cards.read(folder)
        if found := cards.damaged(Path(folder), card):
            raise ValueError(f"model {folder} is damaged: {found} is not what was written")
        self.model, self.model_id, self.fields = open_model(card["algorithm"], folder), card["model_id"], card["fields"]
        self.calibrator = Calibrator(**card["calibrator"])
        ScoringModel.loads[folder] += 1

    def score(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Raw logits float32 [n] and calibrated p float64 [n] of X int32 [n, n_fields]."""
        logits = self.model.decision_function(X)
        return logits, self.calibrator(logits)


@functools.lru_cache(maxsize=128)
def opened(folder: str) -> ScoringModel:
    """The model of `folder`, loaded once per Python process however many tasks it serves."""
    return ScoringModel(folder)


def loads(folder: str | None = None) -> int:
    """How often this process has loaded the model of `folder`, whoever asked for it; without one, any model."""
    return ScoringModel.loads.total() if folder is None else ScoringModel.loads[folder]


def fit_calibrators(task: dict[str, Any]) -> dict[int, tuple[float, float]]:
    """Slope and intercept per target period.

    `task`: files of rows with `period_no`, `y` and the logit `column`; `windows` maps a target period to the periods it
    learns from.
    """
    import pyarrow.parquet as pq

    columns = ["period_no", "y", task["column"]]
    parts = [pq.ParquetFile(path).read(columns, use_threads=False) for path in task["files"]]
    period, y, logits = (np.concatenate([part[name].to_numpy() for part in parts]) for name in columns)
    found = {}
    for target, periods in task["windows"].items():
        inside = np.isin(period, periods)
        fitted = fit_calibrator(logits[inside], y[inside])
        found[target] = (fitted.slope, fitted.intercept)
    return found


def scoring_cost(task: dict[str, Any]) -> list[dict[str, float]]:
    """Score the same block of rows again and again: wall and CPU seconds and peak RSS of each repeat.

    `task`: folder of the model, `rows` (a RowStore folder), `periods` [first, last], `limit` on the rows, `repeats`.
    Compilation and page faults fall into an uncounted first go.
    """
    store = RowStore.open(task["rows"])
    span = store.span(*task["periods"])
    X = np.ascontiguousarray(store.X[span.start : min(span.stop, span.start + task["limit"])])
    model = opened(task["folder"])
    model.score(X)
    results = []
    for repeat in range(1, task["repeats"] + 1):
        with measured() as cost:
            model.score(X)
        results.append({"repeat": repeat, "rows": len(X), **asdict(cost)})
    return results
