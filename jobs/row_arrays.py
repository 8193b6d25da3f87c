"""The data set `rows`: the examples as arrays in time order, which training tasks map instead of reading.

Tasks write disjoint rows of the same files, so nothing goes through the driver but counts per file and period.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from ffm_udf.row_store import RowStore, put
from jobs.cycle import Cycle
from jobs.lake import Dataset
from jobs.periods import PARTS


def make(cycle: Cycle, spark: SparkSession, examples: Dataset) -> Dataset:
    """Make `rows` of the examples: all parts of the split and the matured periods between them."""
    fields = cycle.contract.field_names

    def write(out: Path) -> None:
        total, placed = places(spark, examples)
        RowStore.create(out, fields, total)
        tasks = [{"folder": str(out), "file": file, "fields": fields, "first": first} for file, first in placed]
        spark.sparkContext.parallelize(tasks, len(tasks)).foreach(fill)

    return cycle.make("rows", __name__, {"examples": examples.content}, fields, write)[0]


def places(spark: SparkSession, examples: Dataset) -> tuple[dict[int, int], list[tuple[str, dict[int, int]]]]:
    """Rows per period, and for every example file the first row of its rows of each period."""
    files = examples.under(*(f"split={part}" for part in (*PARTS, "unused")))
    counts = spark.sparkContext.parallelize(files, len(files)).map(count_by_period).collect()
    total: Counter[int] = Counter()
    for found in counts:
        total.update(found)
    placed, free = [], first_rows(total)
    for path, found in zip(files, counts, strict=True):
        placed.append((path, {number: free[number] for number in found}))
        for number, rows in found.items():
            free[number] += rows
    return total, placed


def first_rows(counts: dict[int, int]) -> dict[int, int]:
    """The first row of every period when periods follow one another."""
    first, found = 0, {}
    for number in sorted(counts):
        found[number], first = first, first + counts[number]
    return found


def count_by_period(file: str) -> dict[int, int]:
    """Rows of an example file by period number."""
    numbers, counts = np.unique(pq.ParquetFile(file).read(["period_no"])["period_no"].to_numpy(), return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def fill(task: dict[str, Any]) -> None:
    """Copy an example file (`file`, with the `fields`) into the arrays of `folder`; its rows of period n start at row
    `first`[n]."""
    columns = [f"f_{name}" for name in task["fields"]]
    table = pq.ParquetFile(task["file"]).read([*columns, "y", "period_no"], use_threads=False)
    X = np.column_stack([table[name].to_numpy() for name in columns])
    y, period = table["y"].to_numpy(), table["period_no"].to_numpy()
    for number, first in task["first"].items():
        mine = period == number
        put(task["folder"], first, X[mine], y[mine])


def opened(cycle: Cycle) -> RowStore:
    return RowStore.open(str(cycle.dataset("rows").root))
