"""What the models of a cycle are judged on: the data sets `judged_rows`, `logits` and `predictions`, and tasks on them.

Everything that has a row per exposure stays in tasks, which map these arrays; the driver sees sums.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from ffm_udf import calibration, judged_rows, predictions, scoring
from ffm_udf.judged_rows import JudgedRows, hashed, mixed
from jobs import row_arrays
from jobs.cycle import Cycle
from jobs.lake import Dataset

PARTS = ("valid", "calib", "test")


@dataclass(frozen=True)
class Entrant:
    """A model that is judged: `candidate` scores valid and calib, its `rehearsal`, which learned from them, test.

    Both are folders. vocabulary: the file of its own one, None if it is tonight's.
    """

    model_id: str
    candidate: str
    rehearsal: str
    vocabulary: str | None = None


@dataclass(frozen=True)
class Judged:
    """The judged rows of a cycle and what each of its entrants says of them; a place is an index into `ids`."""

    cycle: Cycle
    spark: SparkSession
    rows: Dataset
    logits: Dataset
    predictions: Dataset
    ids: list[str]
    shifts: list[float]  # of each entrant's calibrators, where they were learned on calib

    def __len__(self) -> int:
        """How many rows are judged."""
        return len(JudgedRows.open(str(self.rows.root)).y)

    def place_of(self, model_id: str) -> int:
        return self.ids.index(model_id)

    def task(self, **more: Any) -> dict[str, Any]:
        """A task that `ffm_udf.predictions.opened` understands."""
        return {"judged": str(self.rows.root), "predictions": str(self.predictions.root), **more}

    def run[Found](self, function: Callable[[dict[str, Any]], Found], tasks: list[dict[str, Any]]) -> list[Found]:
        """The results of `function`, one Spark task for each of `tasks`."""
        return self.spark.sparkContext.parallelize(tasks, len(tasks)).map(function).collect() if tasks else []


def opened(cycle: Cycle, spark: SparkSession) -> Judged:
    """What the cycle's models were judged on; LakeError if `evaluate` has not run."""
    rows, logits, predictions = (cycle.dataset(name) for name in ("judged_rows", "logits", "predictions"))
    shifts = cycle.dataset("calibrators").manifest["params"]["shifts"]
    return Judged(cycle, spark, rows, logits, predictions, predictions.manifest["params"], shifts)


def beside(dataset: Dataset, out: Path) -> str:
    """The path from folder `out` of a data set to `dataset`, without its run: the same whenever it is made."""
    return os.path.relpath(dataset.folder.resolve(), out.resolve())


def make_rows(cycle: Cycle, spark: SparkSession) -> Dataset:
    """The data set `judged_rows`: columns of the examples beside their features, which `rows` has."""
    examples, rows = cycle.dataset("examples"), cycle.dataset("rows")

    def write(out: Path) -> None:
        total, placed = row_arrays.places(spark, examples)
        rates = cycle.dataset("label_rates").table().to_pylist()
        numbers = {
            part: [cycle.periods.number(row["period"]) for row in rates if row["split"] == part] for part in PARTS
        }
        splits = {part: (min(found), max(found)) for part, found in numbers.items()}
        first, last = splits["valid"][0], splits["test"][1]
        start, at = row_arrays.first_rows(total), 0
        periods = {}
        for number in sorted(n for n in total if first <= n <= last):
            periods[number] = (at, at + total[number])
            at += total[number]
        inside = [(file, {n: row for n, row in where.items() if n in periods}) for file, where in placed]
        inside = [(file, where) for file, where in inside if where]
        names = [f"s_{item.name}" for item in cycle.contract.slices]
        asked = [{"file": file, "slices": names} for file, _ in inside]
        seen: dict[str, set[str]] = {name: set() for name in names}
        for found in spark.sparkContext.parallelize(asked, len(asked)).map(slice_values).collect():
            for name, values in found.items():
                seen[name].update(values)
        values = {name.removeprefix("s_"): sorted(seen[name]) for name in names}
        optional = [name for name in ("cost", "eligible") if getattr(cycle.contract, name)]
        offset = start[min(periods)]
        JudgedRows.create(out, beside(rows, out), offset, periods, splits, values, optional)
        tasks = [
            {"folder": str(out), "file": file, "first": {n: row - offset for n, row in where.items()}, "slices": values}
            | {"optional": optional}
            for file, where in inside
        ]
        spark.sparkContext.parallelize(tasks, len(tasks)).foreach(fill)

    inputs = {"examples": examples.content, "rows": rows.content}
    params = cycle.contract.part("slices", "cost", "eligible")
    return cycle.make("judged_rows", __name__, inputs, params, write)[0]


def slice_values(task: dict[str, Any]) -> dict[str, list[str]]:
    """The values of every slice column in an example file."""
    table = pq.ParquetFile(task["file"]).read(task["slices"], use_threads=False)
    return {name: [str(value) for value in table[name].unique().to_pylist()] for name in task["slices"]}


def fill(task: dict[str, Any]) -> None:
    """Copy an example file (`file`) into the arrays of `folder`; its rows of period n start at row `first`[n].

    `slices`: the values of every slice, whose places are their codes; `optional`: columns beyond those always there.
    """
    keys = ("entity_id", "candidate_id", "match_id", "exposure_time")
    names = [f"s_{name}" for name in task["slices"]]
    columns = [*keys, "period_no", "y", "value", *names, *task["optional"]]
    table = pq.ParquetFile(task["file"]).read(columns, use_threads=False)
    entity, candidate, match = (hashed(table[name]) for name in keys[:3])
    moment = table["exposure_time"].cast("timestamp[us]").cast("int64").to_numpy()
    found = {
        "y": table["y"].to_numpy(),
        "entity": entity,
        "candidate": candidate,
        "tie": mixed(entity, candidate, match, moment),
        "value": table["value"].to_numpy(),
        **{name: table[name].to_numpy() for name in task["optional"]},
    }
    codes = np.zeros((table.num_rows, len(names)), np.int32)
    for place, (name, values) in enumerate(task["slices"].items()):
        encoded = table[f"s_{name}"].combine_chunks().dictionary_encode()
        known = {value: code for code, value in enumerate(values)}
        of_file = np.array([known[str(value)] for value in encoded.dictionary.to_pylist()], np.int32)
        codes[:, place] = of_file[encoded.indices.to_numpy()]
    found["slices"] = codes
    period = table["period_no"].to_numpy()
    for number, first in task["first"].items():
        mine = period == number
        judged_rows.put(task["folder"], first, {name: values[mine] for name, values in found.items()})


def make_logits(
    cycle: Cycle, spark: SparkSession, rows: Dataset, entrants: list[Entrant], opening: Callable[[], None]
) -> tuple[Dataset, bool]:
    """The data set `logits`, a file per entrant; also whether it was there already. `opening` is called before anything
    is scored: whoever looks at the test periods is noted even if the look then fails."""
    folder = str(rows.root)

    def write(out: Path) -> None:
        opening()
        tasks = [
            {"judged": folder, "out": str(predictions.logits_file(out, place))}
            | {"candidate": entrant.candidate, "rehearsal": entrant.rehearsal}
            | {"vocabularies": vocabularies(cycle, entrant)}
            for place, entrant in enumerate(entrants)
        ]
        spark.sparkContext.parallelize(tasks, len(tasks)).foreach(scoring.write_logits)

    params = [[entrant.model_id, Path(entrant.rehearsal).name] for entrant in entrants]
    return cycle.make("logits", __name__, {"judged_rows": rows.content}, params, write)


def vocabularies(cycle: Cycle, entrant: Entrant) -> list[str] | None:
    """Files of tonight's vocabulary and of the entrant's own one, None if that is tonight's."""
    return [cycle.dataset("vocabulary").only_file, entrant.vocabulary] if entrant.vocabulary else None


def make_predictions(cycle: Cycle, rows: Dataset, logits: Dataset, ids: list[str]) -> tuple[Dataset, bool]:
    """The data set `predictions`: the logits with the calibrators in force (those of data set `calibrators`).

    Periods before the test are the candidate's: they get the first test period's calibrator without its shift to the
    rehearsal's level.
    """
    learned = cycle.dataset("calibrators")
    shifts = learned.manifest["params"]["shifts"]
    by_place: list[dict[int, dict[str, Any]]] = [{} for _ in ids]
    for row in learned.table().to_pylist():
        by_place[ids.index(row["model_id"])][cycle.periods.number(row["period"])] = json.loads(row["calibrator"])
    known = JudgedRows.open(str(rows.root))
    before = [number for number, span in known.periods.items() if span.start < known.splits["test"].start]
    for mine, shift in zip(by_place, shifts, strict=True):
        own = calibration.as_dict(calibration.load(mine[min(mine)]).shifted(-shift))
        mine |= dict.fromkeys(before, own)

    def write(out: Path) -> None:
        predictions.write(out, beside(logits, out), by_place)

    inputs = {"logits": logits.content, "calibrators": learned.content}
    return cycle.make("predictions", __name__, inputs, ids, write)
