"""The data set `delayed_rows`: every exposure of the snapshot as arrays in time order, with when its conversion came.

    X.npy, y.npy    as in ffm_udf/row_store.py; y is the final label, as far as the cycle knows it
    exposed.npy     float64 [n]  when: days since 1970-01-01 on the wall clock of the periods
    delay.npy       float64 [n]  days from exposure to conversion; infinite without one within the window
    group.npy       int32 [n]    place in the sorted groups of label.delay_by

Field values are those known when the exposure's period began, whatever later date a model is trained at, so rows are
computed once for all of them. Ids are numbered over all rows; who trains at an earlier date folds them (jobs/folds.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ffm_udf.npy_rows import write_rows
from ffm_udf.row_store import RowStore, put
from jobs import row_arrays
from jobs.cycle import Cycle
from jobs.encode import base_rate, contents, events, field_ids, label, values, write_vocabulary
from jobs.label_delay import ALL, local_seconds
from jobs.lake import Dataset

MORE = {"exposed": np.float64, "delay": np.float64, "group": np.int32}
DAY = 86_400


@dataclass(frozen=True)
class DelayedRows:
    """`store` and, memory-mapped, the arrays that lie beside it."""

    store: RowStore
    exposed: np.ndarray
    delay: np.ndarray
    group: np.ndarray

    @classmethod
    def open(cls, folder: Path | str) -> DelayedRows:
        arrays = (np.load(Path(folder) / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in MORE)
        return cls(RowStore.open(folder), *arrays)


def make(cycle: Cycle, spark: SparkSession) -> tuple[Dataset, Dataset]:
    """The data sets `delayed_rows` and `delayed_vocabulary` of the cycle's snapshot."""
    inputs = contents(cycle) | {"label_rates": cycle.dataset("label_rates").content}
    params = cycle.contract.part("fields", "label", "history_smoothing", "period", "min_count", "entity")
    made, _ = cycle.make(
        "delayed_values", __name__, inputs, params, lambda out: _write_values(cycle, spark, out / "split=train")
    )
    # The rows all count as training rows here: what is rare in all of them is rare in every part.
    vocabulary, _ = cycle.make(
        "delayed_vocabulary",
        __name__,
        {"values": made.content},
        params,
        lambda out: write_vocabulary(made, cycle.contract, spark, out),
    )
    both = {"values": made.content, "vocabulary": vocabulary.content}
    rows, _ = cycle.make(
        "delayed_rows", __name__, both, params, lambda out: _write_arrays(cycle, spark, made, vocabulary, out)
    )
    return rows, vocabulary


def _write_values(cycle: Cycle, spark: SparkSession, out: Path) -> None:
    """One column `v_<field>` per field, and of each row period_no, exposed, delay (null: none) and grp."""
    contract, tables = cycle.contract, events(cycle, spark)
    exposed, converted = F.col(contract.exposure_time), F.col(contract.conversion_time)
    seconds, last = local_seconds(exposed, cycle), F.lit(float(contract.label.window) - 1e-6)
    by = contract.label.delay_by
    # An hour more or less where clocks change must not carry a conversion out of the window that it is in.
    took = F.least((local_seconds(converted, cycle) - seconds) / DAY, last)
    keep = [
        "period_no",
        (seconds / DAY).alias("exposed"),
        F.when(label(contract) == 1, took).alias("delay"),
        (F.coalesce(F.col(by).cast("string"), F.lit("(missing)")) if by else F.lit(ALL)).alias("grp"),
    ]
    rate = base_rate(cycle.dataset("label_rates").table())
    frame = values(tables["exposures"], contract, cycle.periods, tables, rate, keep)
    frame.write.mode("append").parquet(str(out))


def _write_arrays(cycle: Cycle, spark: SparkSession, made: Dataset, vocabulary: Dataset, out: Path) -> None:
    files, fields = made.files, cycle.contract.field_names
    counted = spark.sparkContext.parallelize(files, len(files)).map(row_arrays.count_by_period).collect()
    total: Counter[int] = Counter()
    for found in counted:
        total.update(found)
    RowStore.create(out, fields, total)
    for name, dtype in MORE.items():
        np.lib.format.open_memmap(out / f"{name}.npy", "w+", dtype, (sum(total.values()),))
    groups = sorted({row["grp"] for row in spark.read.parquet(*files).select("grp").distinct().collect()})
    shared = {"folder": str(out), "fields": fields, "vocabulary": vocabulary.only_file, "groups": groups}
    tasks, free = [], row_arrays.first_rows(total)
    for path, found in zip(files, counted, strict=True):
        tasks.append(shared | {"file": path, "first": {number: free[number] for number in found}})
        for number, rows in found.items():
            free[number] += rows
    spark.sparkContext.parallelize(tasks, len(tasks)).foreach(fill)


def fill(task: dict[str, Any]) -> None:
    """Write the rows of one file of values at their places in the arrays of the folder."""
    folder = Path(task["folder"])
    ids = field_ids(pq.ParquetFile(task["vocabulary"]).read(use_threads=False))
    table = pq.ParquetFile(task["file"]).read(use_threads=False)
    X = np.column_stack([ids[name].of(table[f"v_{name}"].combine_chunks()).to_numpy() for name in task["fields"]])
    delay = pc.fill_null(table["delay"], np.inf).to_numpy()
    group = pc.index_in(table["grp"], value_set=pa.array(task["groups"])).to_numpy()
    more = {"exposed": table["exposed"].to_numpy(), "delay": delay, "group": group.astype(np.int32)}
    period = table["period_no"].to_numpy()
    for number, first in task["first"].items():
        mine = period == number
        put(folder, first, X[mine], np.isfinite(delay[mine]).astype(np.int8))
        for name, column in more.items():
            write_rows(folder / f"{name}.npy", first, column[mine])
