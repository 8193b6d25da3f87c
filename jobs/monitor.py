"""Job: how each field and the score are distributed now, in bins frozen on a reference. Only counts; dbt does the rest.

Fields: the most frequent training values are bins of their own, all others share one, values the vocabulary does not
know have theirs; reference = training periods. Score: deciles of the calib periods; tonight's scores come last, unless
they are stale: those were counted in the night that made them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ffm_udf import score_deciles
from jobs import facts, judged, live_performance
from jobs.comparison import shown
from jobs.cycle import Cycle
from jobs.lake import Dataset

OWN_BINS = 18  # values with a bin of their own; with "other" and "rare or new" that makes 20
RARE, OTHER = "rare or new", "other"
DECILES = 10


def run(cycle: Cycle, spark: SparkSession) -> Dataset:
    """Make the facts `drift_bins` and `live_performance` of this cycle; returns the first."""
    with cycle.stage("monitor") as stage:
        names = ("examples", "vocabulary", "predictions", "scores", "k_comparison")
        inputs = {name: cycle.dataset(name).content for name in names}

        def write(out: Path) -> None:
            rows = field_bins(cycle, spark) + score_bins(cycle, spark)
            pq.write_table(facts.table("drift_bins", rows), out / "part-0.parquet")

        bins, reused = cycle.make("drift_bins", __name__, inputs, {"is_stale": _is_stale(cycle)}, write)
        stage.made(bins, reused)
        live_performance.run(cycle, spark)
    return bins


def field_bins(cycle: Cycle, spark: SparkSession) -> list[dict[str, Any]]:
    """Counts per field, period and bin of the examples."""
    examples = cycle.dataset("examples")
    root = str(examples.root)
    fields = cycle.contract.field_names
    rows = spark.read.parquet(root).select("split", "period_no", *(f"f_{name}" for name in fields))
    counts = pl.DataFrame(feature_counts(rows, fields).toArrow())
    vocabulary = pl.DataFrame(cycle.dataset("vocabulary").table())
    binned = counts.join(bin_of_features(vocabulary, counts), on="feature_id", how="left")
    reference = pl.col("split") == "train"
    grouped = (
        binned.with_columns(reference.alias("is_reference"), pl.when(~reference).then("period_no").alias("period_no"))
        .group_by("field", "period_no", "is_reference", "bin", "bin_order")
        .agg(pl.col("n").sum())
        .sort("field", "is_reference", "period_no", "bin_order", nulls_last=False)
    )
    return [_row(cycle, "field", row) for row in grouped.iter_rows(named=True)]


def feature_counts(rows: DataFrame, fields: list[str]) -> DataFrame:
    """Rows per split, period and feature id; counted by NumPy in each batch, then summed by Spark."""

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            frame = pl.DataFrame(pl.from_arrow(batch))
            for name in fields:
                found = frame.group_by("split", "period_no", pl.col(f"f_{name}").alias("feature_id")).len("n")
                yield from (
                    found.with_columns(pl.col("n").cast(pl.Int64), pl.col("split").cast(pl.String))
                    .to_arrow()
                    .cast(schema)
                    .to_batches()
                )

    schema = pa.schema({"split": pa.string(), "period_no": pa.int32(), "feature_id": pa.int32(), "n": pa.int64()})
    counted = rows.mapInArrow(count, "split string, period_no int, feature_id int, n long")
    return counted.groupBy("split", "period_no", "feature_id").agg(F.sum("n").alias("n"))


def bin_of_features(vocabulary: pl.DataFrame, counts: pl.DataFrame) -> pl.DataFrame:
    """field, feature_id, bin and bin_order of every feature; the order is by frequency in training."""
    train = counts.filter(pl.col("split") == "train").group_by("feature_id").agg(pl.col("n").sum().alias("seen"))
    ranked = (
        vocabulary.select("field", "value", "feature_id")
        .join(train, on="feature_id", how="left")
        .with_columns(pl.col("seen").fill_null(0))
        .sort("field", "seen", "feature_id", descending=[False, True, False])
        .with_columns(pl.col("value").is_not_null().cum_sum().over("field").alias("place"))
    )
    own = pl.col("value").is_not_null() & (pl.col("place") <= OWN_BINS)
    name = pl.when(own).then("value").when(pl.col("value").is_null()).then(pl.lit(RARE)).otherwise(pl.lit(OTHER))
    order = pl.when(own).then("place").when(pl.col("value").is_null()).then(OWN_BINS + 2).otherwise(OWN_BINS + 1)
    return ranked.select("field", "feature_id", name.alias("bin"), order.cast(pl.Int32).alias("bin_order"))


def score_bins(cycle: Cycle, spark: SparkSession) -> list[dict[str, Any]]:
    """Counts per period and decile of calibrated p: the verdict model's on past periods, then tonight's scores.

    Stale scores are another night's distribution and would hide a drift: they are left out.
    """
    rows = judged.opened(cycle, spark)
    chosen = shown(cycle.dataset("k_comparison").table().to_pylist())["model_id"]
    [(edges, counted)] = rows.run(score_deciles.of_model, [rows.task(place=rows.place_of(chosen), bins=DECILES)])
    if not _is_stale(cycle):
        tonight = spark.read.parquet(*cycle.dataset("scores").files)
        number = sum(((F.col("p") >= F.lit(edge)).cast("int") for edge in edges), F.lit(0))
        for row in tonight.groupBy(number.alias("bin")).agg(F.count("*").alias("n")).collect():
            counted.append({"period_no": cycle.periods.scoring, "bin": row["bin"], "n": row["n"]})
    bounds = [0.0, *edges, 1.0]
    found = []
    for row in sorted(counted, key=lambda row: (row["period_no"] or 0, row["bin"])):
        low, high = bounds[row["bin"]], bounds[row["bin"] + 1]
        values = {"field": "p", "bin": f"{low:.5f} to {high:.5f}", "bin_order": row["bin"], "n": row["n"]}
        values |= {"period_no": row["period_no"], "is_reference": row["period_no"] is None}
        found.append(_row(cycle, "score", values))
    return found


def _is_stale(cycle: Cycle) -> bool:
    return cycle.dataset("scoring").table()["source"][0].as_py() == "stale"


def _row(cycle: Cycle, subject: str, row: dict[str, Any]) -> dict[str, Any]:
    period = None if row["period_no"] is None else cycle.periods.day(row["period_no"])
    same = {name: row[name] for name in ("field", "is_reference", "bin", "bin_order", "n")}
    return same | {"subject": subject, "period": period}


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("monitor"))
