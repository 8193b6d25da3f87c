"""Job: turn the snapshot into examples, one int32 feature id per field, split by time.

Vocabularies come from training rows only; a value seen fewer than min_count times, or never, is its field's OOV
feature. Feature ids are contiguous by field: `offset` is the OOV feature, then the field's values in sorted order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import IntegerType, StructField, StructType

from jobs import facts, row_arrays
from jobs.contract import Contract, ContractError, FieldRule
from jobs.cycle import Cycle
from jobs.history import Events, with_history
from jobs.lake import Dataset
from jobs.periods import PARTS, Periods, period_number

FILES = 8  # per part; fixed, so that the same input gives the same files on any cluster
KEYS = ("entity_id", "candidate_id", "match_id")


def run(cycle: Cycle, spark: SparkSession) -> Dataset:
    """Make `examples`, `vocabulary`, `rows` and `label_rates` of this cycle; returns `examples`."""
    contract, inputs = cycle.contract, contents(cycle)
    params = contract.model_dump(
        mode="json",
        exclude={
            "data_note",
            "default_date",
            "training",
            "grid",
            "source",
            "prior",
            "top_n",
            "max_oov_share",
            "privacy",
        },
    )
    params |= {"scoring_period": cycle.periods.scoring}
    with cycle.stage("encode") as stage:
        cycle.make("label_rates", __name__, inputs, params, lambda out: _write_rates(cycle, events(cycle, spark), out))
        values, _ = cycle.make(
            "values", __name__, inputs, params, lambda out: _write_values(cycle, events(cycle, spark), out)
        )
        vocabulary, _ = cycle.make(
            "vocabulary",
            __name__,
            {"values": values.content},
            params,
            lambda out: write_vocabulary(values, contract, spark, out),
        )
        both = {"values": values.content, "vocabulary": vocabulary.content}
        examples, reused = cycle.make(
            "examples", __name__, both, None, lambda out: _write_examples(values, vocabulary, contract, spark, out)
        )
        row_arrays.make(cycle, spark, examples)
        stage.made(examples, reused)
        sizes = {part: split_rows(examples, part) for part in PARTS}
        cycle.progress.note(f"{vocabulary.rows:,} features in {len(contract.fields)} fields; rows {sizes}")
    return examples


def uses_purchases(contract: Contract) -> bool:
    return any(rule.of == "purchases" for rule in contract.fields)


def contents(cycle: Cycle) -> dict[str, str]:
    """The content of every data set that `events` reads."""
    names = ["exposures"]
    if uses_purchases(cycle.contract):
        names.append("purchases")
    if cycle.contract.sets:
        names.append("members")
    return {name: cycle.dataset(name).content for name in names}


def split_rows(examples: Dataset, part: str) -> int:
    return sum(e["rows"] for e in examples.manifest["files"] if e["path"].startswith(f"split={part}/"))


def events(cycle: Cycle, spark: SparkSession) -> Events:
    """The snapshot's exposures (with `period_no`, `conversion_no`), purchases and files of the tables of sets."""
    contract, periods = cycle.contract, cycle.periods
    exposures = spark.read.parquet(*cycle.dataset("exposures").under("status=kept"))
    numbered = exposures.withColumn("period_no", period_number(contract.exposure_time, periods))
    converted = period_number(contract.conversion_time, periods)
    numbered = numbered.withColumn("conversion_no", converted)
    if contract.delivered_at:
        numbered = numbered.withColumn("known_no", known_period(cycle))
    found: Events = {"exposures": numbered}
    if uses_purchases(contract):
        found["purchases"] = spark.read.parquet(*cycle.dataset("purchases").files)
    if contract.sets:
        paths = {name: cycle.dataset("members").under(name) for name in contract.sets}
        found["members"] = {name: [str(Path(file).resolve()) for file in files] for name, files in paths.items()}
    return found


def label(contract: Contract) -> Column:
    """1 if the conversion lies within the label's window of the exposure, else 0."""
    window = contract.label.window
    if isinstance(window, str):
        inside = F.col("conversion_no") == F.col("period_no")
    else:
        inside = F.col(contract.conversion_time) < F.col(contract.exposure_time) + F.expr(f"interval {window} days")
    return F.coalesce(inside, F.lit(False)).cast("byte")


def known_period(cycle: Cycle) -> Column:
    """The period in which a row's conversion became known: when it happened, or was told if that was later."""
    contract, happened = cycle.contract, F.col("conversion_no")
    if contract.delivered_at is None:
        return happened
    return F.greatest(happened, F.when(happened.isNotNull(), period_number(contract.delivered_at, cycle.periods)))


def _rates(cycle: Cycle, exposures: DataFrame) -> list[dict]:
    """Exposures and conversions by period with the part each period belongs to."""
    converted, known_no = label(cycle.contract), known_period(cycle)
    former = cycle.periods.scoring - 1
    counted = (
        exposures.groupBy("period_no")
        .agg(
            F.count("*").alias("n"),
            F.sum(converted).alias("c"),
            F.sum(F.when(known_no <= F.col("period_no"), converted).otherwise(0)).alias("first"),
            F.sum(F.when(known_no < former, converted).otherwise(0)).alias("former"),
        )
        .collect()
    )
    split = cycle.periods.split(min(row["period_no"] for row in counted))
    for part, numbers in split.items():
        rows = [row for row in counted if row["period_no"] in numbers]
        shown, converted = sum(row["n"] for row in rows), sum(row["c"] for row in rows)
        if not shown or (part == "train" and not 0 < converted < shown):
            days = f"{cycle.periods.day(numbers[0])} to {cycle.periods.day(numbers[-1])}"
            raise ContractError(
                f"split.{part} must hold exposures, and train converted and other ones, got {converted} converted of "
                f"{shown} in the periods of {days}"
            )
    part_of = {number: part for part, numbers in split.items() for number in numbers}
    return [
        {
            "period": cycle.periods.day(row["period_no"]),
            "split": part_of.get(row["period_no"], "unused"),
            "exposures": row["n"],
            "conversions": row["c"],
            "conversions_first": row["first"],
            "conversions_former": row["former"],
            "is_mature": row["period_no"] <= cycle.periods.last_matured,
        }
        for row in sorted(counted, key=lambda row: row["period_no"])
    ]


def _write_rates(cycle: Cycle, tables: Events, out: Path) -> None:
    pq.write_table(facts.table("label_rates", _rates(cycle, tables["exposures"])), out / "part-0.parquet")


def base_rate(rates: pa.Table) -> float:
    """Conversions per exposure of the training periods."""
    train = rates.filter(pc.field("split") == "train")
    return pc.sum(train["conversions"]).as_py() / pc.sum(train["exposures"]).as_py()


def field_value(rule: FieldRule) -> Column:
    """The field's value of a row, text or (history) an int code; missing input is a value of its own."""
    columns = [F.coalesce(F.col(name).cast("string"), F.lit("(missing)")) for name in rule.columns]
    if rule.transform == "history":
        return F.coalesce(F.col(rule.name), F.lit(0))
    if rule.transform == "log2":
        return F.coalesce(F.floor(F.log2(F.col(rule.columns[0]) + 1)).cast("string"), F.lit("(missing)"))
    if rule.transform == "hashed":
        return F.pmod(F.xxhash64(*columns), F.lit(rule.buckets)).cast("string")
    return F.concat_ws("|", *columns)


def values(
    rows: DataFrame,
    contract: Contract,
    periods: Periods,
    tables: Events,
    rate: float,
    keep: Sequence[Column | str],
) -> DataFrame:
    """`keep` and one column per field, `v_<field>`, for rows that carry `period_no` and the contract's columns."""
    with_all = with_history(rows, contract, periods, tables, rate)
    return with_all.select(*keep, *(field_value(rule).alias(f"v_{rule.name}") for rule in contract.fields))


def keys(contract: Contract, wanted: tuple[str, ...] = KEYS) -> list[Column]:
    """entity_id, candidate_id and match_id as text, or those of them that are wanted."""
    roles = {"entity_id": contract.entity, "candidate_id": contract.candidate, "match_id": contract.match}
    return [F.concat_ws("|", *roles[key]).alias(key) for key in wanted]


def _write_values(cycle: Cycle, tables: Events, out: Path) -> None:
    contract = cycle.contract
    rates = cycle.dataset("label_rates").table()
    split = F.create_map(
        *(F.lit(x) for row in rates.to_pylist() for x in (cycle.periods.number(row["period"]), row["split"]))
    )[F.col("period_no")]
    keep = [
        split.alias("split"),
        *keys(contract),
        "period_no",
        F.col(contract.exposure_time).alias("exposure_time"),
        label(contract).alias("y"),
        F.when(label(contract) == 1, F.col(contract.value)).otherwise(0.0).cast("double").alias("value"),
        *([F.coalesce(F.col(contract.cost), F.lit(0.0)).cast("double").alias("cost")] if contract.cost else []),
        *([F.coalesce(F.col(contract.eligible), F.lit(False)).alias("eligible")] if contract.eligible else []),
        *(
            F.coalesce(F.col(s.column).cast("string"), F.lit("(missing)")).alias(f"s_{s.name}")
            for s in contract.slices
            if s.column
        ),
    ]
    frame = values(tables["exposures"], contract, cycle.periods, tables, base_rate(rates), keep)
    # Matured periods between the parts are in none of them, but the refit trains on them too.
    parts = [row["period"] for row in rates.to_pylist() if row["split"] != "unused"]
    within = F.col("period_no").between(cycle.periods.number(min(parts)), cycle.periods.number(max(parts)))
    frame.where(within).write.partitionBy("split").mode("append").parquet(str(out))


def write_vocabulary(values: Dataset, contract: Contract, spark: SparkSession, out: Path) -> None:
    names = [f"v_{name}" for name in contract.field_names]
    train = spark.read.parquet(*values.under("split=train")).select(*names)

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # A row of Arrow's own value counts per batch: exploding every row into its fields is ten times slower.
        for batch in batches:
            for field, column in zip(contract.field_names, batch.columns, strict=True):
                found = pc.value_counts(column)
                fields = pa.array([field] * len(found), pa.string())
                value, n = found.flatten()
                yield pa.RecordBatch.from_arrays([fields, value.cast(pa.string()), n], names=["field", "value", "n"])

    counted = train.mapInArrow(count, "field string, value string, n long")
    table = (
        counted.groupBy("field", "value").agg(F.sum("n").alias("n")).where(F.col("n") >= contract.min_count).toArrow()
    )
    pq.write_table(numbered(pl.DataFrame(table), contract.field_names), out / "part-0.parquet")


def numbered(counts: pl.DataFrame, fields: list[str]) -> pa.Table:
    """Vocabulary rows (field_no, field, value, n, feature_id); a null value is a field's OOV feature, its first id."""
    order = pl.DataFrame(
        {"field": fields, "field_no": list(range(len(fields)))}, schema_overrides={"field_no": pl.Int32}
    )
    oov = order.select("field", pl.lit(None, pl.String).alias("value"), pl.lit(0, pl.Int64).alias("n"))
    rows = pl.concat([oov, counts.select("field", "value", "n")]).join(order, on="field", how="left")
    rows = rows.sort("field_no", "value", nulls_last=False).with_row_index("feature_id")
    return rows.select("field_no", "field", "value", "n", pl.col("feature_id").cast(pl.Int32)).to_arrow()


@dataclass(frozen=True)
class FieldIds:
    """The feature ids of one field: `oov`, then one for each of its `known` values (string) in order."""

    oov: int
    known: pa.Array

    def of(self, values: pa.Array) -> pa.Array:
        """The int32 feature id of each value, text or int code."""
        place = pc.index_in(values, value_set=self.known.cast(values.type))
        # -1 + 1: what is not in the vocabulary lands on the field's first id, its OOV feature.
        return pc.add(pc.fill_null(place, -1), pa.scalar(self.oov + 1, pa.int32()))


def field_ids(vocabulary: pa.Table) -> dict[str, FieldIds]:
    """The ids of every field of a vocabulary (its rows are in the order of feature ids)."""
    rows = pl.DataFrame(vocabulary).select("field", "value", "feature_id")
    found = {}
    for (field,), mine in rows.group_by("field", maintain_order=True):
        oov = mine.filter(pl.col("value").is_null())["feature_id"].item()
        found[str(field)] = FieldIds(oov, mine["value"].drop_nulls().to_arrow().cast(pa.string()))
    return found


def encoded(frame: DataFrame, vocabulary: pa.Table) -> DataFrame:
    """Replace every `v_<field>` that `frame` has by `f_<field>`, its int feature id."""
    kept = [name for name in frame.columns if not name.startswith("v_")]
    ids = {name: found for name, found in field_ids(vocabulary).items() if f"v_{name}" in frame.columns}
    schema = StructType(
        [*(frame.schema[name] for name in kept), *(StructField(f"f_{name}", IntegerType()) for name in ids)]
    )

    def encode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Nineteen joins with tiny tables would do the same; planning and broadcasting them takes longer than this.
        for batch in batches:
            columns = [batch.column(name) for name in kept]
            columns += [found.of(batch.column(f"v_{name}")) for name, found in ids.items()]
            yield pa.RecordBatch.from_arrays(columns, names=schema.names)

    return frame.mapInArrow(encode, schema)


def _write_examples(values: Dataset, vocabulary: Dataset, contract: Contract, spark: SparkSession, out: Path) -> None:
    table = vocabulary.table()
    root = values.root
    frame = encoded(spark.read.option("basePath", str(root)).parquet(str(root)), table)
    known = [s for s in contract.slices if s.known]
    oov = {row["field"]: row["feature_id"] for row in table.to_pylist() if row["value"] is None}
    for item in known:
        seen = F.when(F.col(f"f_{item.known}") == oov[item.known], "new").otherwise("known")
        frame = frame.withColumn(f"s_{item.name}", seen)
    order = ["split", "period_no", *KEYS, "exposure_time"]
    frame.repartition(FILES, "entity_id").sortWithinPartitions(*order).write.partitionBy("split").mode(
        "append"
    ).parquet(str(out))


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("encode"))
