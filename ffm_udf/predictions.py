"""What every compared model says of the judged rows: raw logits on disk, calibrated by period when they are read.

<logits>/z-00003.npy      float32 [n], the model at place 3
predictions.json          {"logits": folder, "calibrators": [{period number: calibrator, …} per place]}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffm_udf import calibration
from ffm_udf.judged_rows import JudgedRows, arrays_of

HEADER = "predictions.json"


@dataclass(frozen=True)
class Predictions:
    """Predictions of the models at places 0, 1, …; `periods` are the rows of each period."""

    folder: Path  # of the logits
    calibrators: list[dict[int, dict[str, Any]]]
    periods: dict[int, slice]

    @classmethod
    def open(cls, folder: Path | str, rows: JudgedRows) -> Predictions:
        """The predictions of `folder` for `rows`."""
        folder = Path(folder)
        header = json.loads((folder / HEADER).read_text())
        by_place = [{int(number): found for number, found in mine.items()} for mine in header["calibrators"]]
        return cls(arrays_of(folder / header["logits"]), by_place, rows.periods)

    def logits(self, place: int) -> np.ndarray:
        """Raw logits float32 [n], memory-mapped."""
        return np.load(logits_file(self.folder, place), mmap_mode="r")

    def p(self, place: int, rows: slice) -> np.ndarray:
        """Calibrated probabilities float64 of `rows`, each period's by the calibrator in force then; periods before the
        first one with a calibrator of its own get that one's."""
        logits, known = self.logits(place), self.calibrators[place]
        found = np.empty(rows.stop - rows.start, np.float64)
        for number, span in self.periods.items():
            start, stop = max(span.start, rows.start), min(span.stop, rows.stop)
            if start < stop:
                chosen = calibration.load(known.get(number) or known[min(known)])
                found[start - rows.start : stop - rows.start] = chosen(np.asarray(logits[start:stop]))
        return found


def logits_file(folder: Path | str, place: int) -> Path:
    return Path(folder) / f"z-{place:05d}.npy"


def write(folder: Path | str, logits: str, calibrators: Sequence[dict[int, dict[str, Any]]]) -> None:
    """Write the header: `logits` is their folder relative to `folder`."""
    (Path(folder) / HEADER).write_text(json.dumps({"logits": logits, "calibrators": list(calibrators)}))


def opened(task: dict[str, Any]) -> tuple[JudgedRows, Predictions]:
    """The judged rows and the predictions of a task (folders `judged` and `predictions`)."""
    rows = JudgedRows.open(task["judged"])
    return rows, Predictions.open(task["predictions"], rows)
