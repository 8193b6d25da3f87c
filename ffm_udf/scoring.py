"""What runs inside a scoring task on an executor: open a finished model, score rows, measure it. Nothing trains here
but the two numbers of a calibrator."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ffm_udf import calibration
from ffm_udf import card as cards
from ffm_udf.cost import measured
from ffm_udf.judged_rows import JudgedRows
from ffm_udf.row_store import RowStore
from ffm_udf.scorer import open_model
from ffm_udf.vocabulary import translation

STEP = 1 << 17  # rows scored at a time


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
        self.calibrator = calibration.load(card["calibrator"])
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


def write_logits(task: dict[str, Any]) -> None:
    """Score the judged rows of folder `judged` into the .npy file `out`: valid and calib (and what lies between) with
    the model in folder `candidate`, test with `rehearsal`, which has learned from them.

    `vocabularies`: Parquet files of the rows' vocabulary and of the model's own, None if they are the same.
    """
    rows = JudgedRows.open(task["judged"])
    ids = translation(*task["vocabularies"]) if task["vocabularies"] else None
    test = rows.splits["test"].start
    logits = np.empty(len(rows.y), np.float32)
    for name, span in (("candidate", slice(0, test)), ("rehearsal", slice(test, len(logits)))):
        model = opened(task[name])
        for start in range(span.start, span.stop, STEP):
            part = slice(start, min(start + STEP, span.stop))
            X = np.asarray(rows.X[part])
            logits[part] = model.score(X if ids is None else ids[X])[0]
    np.save(task["out"], logits)


def scoring_cost(task: dict[str, Any]) -> list[dict[str, float]]:
    """Score the same block of rows again and again: wall and CPU seconds and peak RSS of each repeat.

    `task`: folder of the model, `rows` (a RowStore folder), `periods` [first, last], `limit` on the rows, `repeats`,
    `vocabularies` as of `write_logits`.
    Compilation and page faults fall into an uncounted first go.
    """
    store = RowStore.open(task["rows"])
    span = store.span(*task["periods"])
    X = np.ascontiguousarray(store.X[span.start : min(span.stop, span.start + task["limit"])])
    if task["vocabularies"]:
        X = translation(*task["vocabularies"])[X]
    model = opened(task["folder"])
    model.score(X)
    results = []
    for repeat in range(1, task["repeats"] + 1):
        with measured() as cost:
            model.score(X)
        results.append({"repeat": repeat, "rows": len(X), **asdict(cost)})
    return results
