"""A small world of judged rows on disk, with predictions, and a `Judged` that runs its tasks in this process."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ffm_udf import judged_rows, predictions
from ffm_udf import row_store as store
from ffm_udf.judged_rows import JudgedRows
from ffm_udf.row_store import RowStore
from jobs.judged import Judged

MONDAY = dt.date(2017, 1, 2)


def write(
    root: Path,
    columns: Mapping[str, np.ndarray],
    counts: Mapping[int, int],
    splits: Mapping[str, tuple[int, int]],
    logits: Sequence[np.ndarray],
    slices: Mapping[str, Sequence[str]] | None = None,
    training: np.ndarray | None = None,
) -> dict[str, Any]:
    """Lay the world out under `root`; returns the folders as a task names them.

    columns: those of JudgedRows and `X` int32 [n, fields] (one constant field without it); counts: rows by period
    number; logits: one array per model, calibrated by the identity; slices: values by name; `training`: X of rows of
    one period before all others.
    """
    n = sum(counts.values())
    X = columns.get("X", np.zeros((n, 1), np.int32))
    before = np.zeros((0, X.shape[1]), np.int32) if training is None else training
    fields = [f"field_{i}" for i in range(X.shape[1])]
    RowStore.create(root / "rows", fields, {0: len(before), **counts})
    store.put(root / "rows", 0, np.vstack([before, X]), np.concatenate([np.zeros(len(before), np.int8), columns["y"]]))
    ends = np.cumsum([counts[number] for number in sorted(counts)])
    periods = {k: (int(end) - counts[k], int(end)) for k, end in zip(sorted(counts), ends, strict=True)}
    optional = [name for name in ("cost", "eligible") if name in columns]
    judged = root / "judged"
    JudgedRows.create(judged, "../rows", len(before), periods, splits, slices or {}, optional)
    hashes = {
        "tie": judged_rows.mixed(np.arange(n)),
        "entity": np.zeros(n, np.uint64),
        "candidate": np.zeros(n, np.uint64),
    }
    given = hashes | {"value": np.zeros(n), "slices": np.zeros((n, len(slices or {})), np.int32)}
    given |= {name: values for name, values in columns.items() if name != "X"}
    judged_rows.put(judged, 0, {name: values for name, values in given.items() if np.size(values)})
    (root / "logits").mkdir()
    for place, values in enumerate(logits):
        np.save(predictions.logits_file(root / "logits", place), np.asarray(values, np.float32))
    (root / "predictions").mkdir()
    identity = {"slope": 1.0, "intercept": 0.0}
    predictions.write(root / "predictions", "../logits", [{min(counts): identity} for _ in logits])
    return {"judged": str(judged), "predictions": str(root / "predictions")}


@dataclass
class Tables:
    """A cycle as far as evaluation asks: its contract, and small data sets by name."""

    contract: Any
    tables: dict[str, list[dict[str, Any]]]

    @property
    def periods(self) -> Tables:
        return self

    def day(self, number: int) -> dt.date:
        return MONDAY + dt.timedelta(weeks=number)

    def number(self, day: dt.date) -> int:
        return (day - MONDAY).days // 7

    def dataset(self, name: str) -> Table:
        return Table(self.tables[name])

    def rates(self, splits: Mapping[str, Sequence[int]]) -> None:
        """Fill `label_rates` with the periods of each part."""
        self.tables["label_rates"] = [
            {"split": part, "period": self.day(number), "exposures": 1}
            for part, found in splits.items()
            for number in found
        ]


@dataclass
class Table:
    rows: list[dict[str, Any]]

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows)


@dataclass(frozen=True)
class Local(Judged):
    """A `Judged` without Spark: tasks run here, one after the other."""

    folders: dict[str, Any]

    def task(self, **more: Any) -> dict[str, Any]:
        return {**self.folders, **more}

    def run[Found](self, function: Callable[[dict[str, Any]], Found], tasks: list[dict[str, Any]]) -> list[Found]:
        return [function(task) for task in tasks]


def local(cycle: Any, folders: dict[str, Any], ids: list[str]) -> Judged:
    """The judged rows of `write` with the models of these ids at places 0, 1, …"""
    nothing: Any = None  # no session, and no data sets of a lake: the folders are known
    return Local(cycle, nothing, nothing, nothing, nothing, ids, [0.0] * len(ids), folders)
