"""Job: read the raw source as of DATE, validate every row, write the immutable snapshot and the quarantine.

A bad row goes to the quarantine with the reason and the night goes on; so does a file whose columns do not fit, as
long as another one of the exposures does. A source of which nothing fits, or an empty one, stops the night with one
line, before anything is written.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator, Iterator
from pathlib import Path

import pandera.polars as pa
import polars as pl
import pyarrow as arrow
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from jobs import source_survey
from jobs.adapters import coupon, files, promo
from jobs.adapters.files import SOURCE_FILE
from jobs.contract import RESERVED, Contract
from jobs.cycle import Cycle
from jobs.lake import Dataset, sha256_json
from jobs.source_files import REFUSED, SourceFile

FILES = 8  # fixed, so that the same input gives the same files on any cluster
POLARS_TYPES = {
    "string": pl.String,
    "integer": pl.Int64,
    "number": pl.Float64,
    "boolean": pl.Boolean,
    "timestamp": pl.Datetime("us", "UTC"),
}
# Spark's own names of what a column of each contract type may be.
ACCEPTED = {
    "string": {"string"},
    "integer": {"tinyint", "smallint", "int", "bigint"},
    "number": {"float", "double", "tinyint", "smallint", "int", "bigint"},
    "boolean": {"boolean"},
    "timestamp": {"timestamp", "timestamp_ntz"},
}
CAST = {"string": "string", "integer": "bigint", "number": "double", "boolean": "boolean", "timestamp": "timestamp"}

DERIVED = {"promo": promo.tables, "coupon": coupon.tables}  # adapters that make all tables themselves

# The raw tables' names in the lake; `entities` and `candidates` are facts made from them when scoring.
SNAPSHOT = {"purchases": "purchases", "entities": "entity_list", "candidates": "offer_list"}


class IngestError(RuntimeError):
    """The source as a whole cannot be used; the message names file or column, rule and value."""


def run(cycle: Cycle, spark: SparkSession) -> Dataset:
    """Make the snapshot data sets of this cycle; returns `exposures`."""
    contract = cycle.contract
    params = contract.part(
        *("source", "columns", "entity", "candidate", "match", "exposure_time", "conversion_time", "value"),
        "delivered_at",
    )
    params |= contract.part("period") | {
        "data_through": cycle.periods.data_through,
        "source": source_survey.fingerprint(contract),
    }
    surveyed = functools.cache(lambda: source_survey.survey_of(contract))  # read only if a data set is not there yet
    tables = functools.cache(lambda: _read(spark, cycle, surveyed()))
    names = ["entities", "candidates"]
    if contract.source.adapter in DERIVED or contract.source.purchases:
        names.append("purchases")
    with cycle.stage("ingest") as stage, one_line(contract):
        snapshot, reused = cycle.make(
            "exposures", __name__, {}, params, lambda out: _write_exposures(tables()["exposures"], contract, out)
        )
        stage.made(snapshot, reused)
        about, found = cycle.make(
            "source_files", __name__, {}, params, lambda out: source_survey.write(surveyed(), out)
        )
        for line in () if found else source_survey.told(surveyed()):
            cycle.progress.note(line)
        for name in names:
            cycle.make(SNAPSHOT[name], __name__, {}, params, lambda out, name=name: _write_sorted(tables()[name], out))
        if contract.sets:
            wanted = params | {"sets": contract.sets}
            cycle.make("members", __name__, {}, wanted, lambda out: _write_members(tables(), contract, out))
        _count(cycle, spark, snapshot, about)
        stage.rows = _rows(snapshot, "kept")
    return snapshot


@contextlib.contextmanager
def one_line(contract: Contract) -> Generator[None]:
    """Turn what Spark says of an unreadable source into an IngestError of one line."""
    try:
        yield
    except (PySparkException, Py4JJavaError, FileNotFoundError) as error:
        told = str(error.java_exception) if isinstance(error, Py4JJavaError) else str(error)
        raise IngestError(f"source of {contract.name} cannot be read: {told.strip().splitlines()[0]}") from error


def _read(spark: SparkSession, cycle: Cycle, surveyed: list[SourceFile]) -> dict[str, DataFrame]:
    if derive := DERIVED.get(cycle.contract.source.adapter):
        tables = derive(spark, cycle.contract.source, cycle.periods)
        # An exposure is made from rows of several tables: all that are read are where it comes from.
        every = "+".join(file.name for file in surveyed)
        tables["exposures"] = tables["exposures"].withColumn(SOURCE_FILE, F.lit(every))
    else:
        tables = files.tables(spark, cycle.contract, cycle.periods, check_columns, surveyed)
    check_members(tables, cycle.contract)
    return tables


def check_columns(rows: DataFrame, contract: Contract) -> None:
    """Raise IngestError naming every declared column that is missing or of another type."""
    have = dict(rows.dtypes)
    faults = []
    for name, column in contract.columns.items():
        if name not in have:
            faults.append(f"column {name} is missing (the source has {', '.join(sorted(have.keys() - {SOURCE_FILE}))})")
        elif have[name] not in ACCEPTED[column.type]:
            faults.append(f"column {name} must be of type {column.type}, got {have[name]}")
    if faults:
        raise IngestError(f"source of {contract.name}: " + "; ".join(faults))


def check_members(tables: dict[str, DataFrame], contract: Contract) -> None:
    """Raise IngestError unless every table of sets has the set's id and one other column, which purchases have too."""
    for name, set_id in contract.sets.items():
        have, bought = dict(tables[f"members.{name}"].dtypes), dict(tables["purchases"].dtypes)
        place, wanted = f"source of {contract.name}: members {name}", contract.columns[set_id].type
        others = [column for column in have if column != set_id]
        if set_id not in have or len(others) != 1:
            raise IngestError(
                f"{place} must have two columns, {set_id} and one of the purchases, got {', '.join(sorted(have))}"
            )
        if have[set_id] not in ACCEPTED[wanted]:
            raise IngestError(f"{place}: column {set_id} must be of type {wanted}, got {have[set_id]}")
        [member] = others
        owners = {c for rule in contract.fields if rule.members == name for c in rule.columns[:-1]}
        if member in RESERVED | files.PURCHASE_TYPES.keys() | owners:
            raise IngestError(f"{place}: column {member} has a name that is used for something else; rename it")
        missing = sorted({member, *owners} - bought.keys())
        if missing:
            raise IngestError(
                f"source of {contract.name}: purchases must have the columns {', '.join(missing)}, which the fields "
                f"of members {name} need"
            )
        if not any({have[member], bought[member]} <= same for same in ACCEPTED.values()):
            raise IngestError(
                f"{place}: column {member} must be of the type that it has in the purchases ({bought[member]}), got "
                f"{have[member]}"
            )


def row_schema(contract: Contract) -> pa.DataFrameSchema:
    """The contract's rules for one row as a pandera schema."""
    columns = {}
    for name, rule in contract.columns.items():
        checks = []
        if rule.minimum is not None:
            checks.append(pa.Check.ge(rule.minimum))
        if rule.maximum is not None:
            checks.append(pa.Check.le(rule.maximum))
        if rule.allowed is not None:
            checks.append(pa.Check.isin(rule.allowed))
        if rule.type == "number":
            checks.append(pa.Check(lambda data: data.lazyframe.select(pl.col(data.key).is_finite()), name="finite"))
        columns[name] = pa.Column(POLARS_TYPES[rule.type], checks, nullable=rule.nullable)
    return pa.DataFrameSchema(columns)


def reasons(rows: pl.DataFrame, schema: pa.DataFrameSchema) -> pl.Series:
    """For each row the rules it breaks as "column: rule", joined by "; ", or null."""
    try:
        schema.validate(rows, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        broken = (
            cases.filter(pl.col("index").is_not_null())
            .select(pl.col("index").cast(pl.UInt32), (pl.col("column") + ": " + pl.col("check")).alias("reason"))
            .group_by("index")
            .agg(pl.col("reason").unique().sort().str.join("; "))
        )
        if cases["index"].null_count():
            raise IngestError(f"validation failed as a whole: {cases.row(0)}") from error
        index = rows.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias("index"))
        return index.join(broken, on="index", how="left", maintain_order="left")["reason"]
    return pl.Series("reason", [None] * len(rows), dtype=pl.String)


def validated(rows: DataFrame, contract: Contract) -> DataFrame:
    """`rows` sorted by entity and time, with `reason` (null: good) and `status` (kept | quarantined).

    One shuffle and one sort bring equal keys next to each other, so one pass finds duplicates and bad values.
    """
    keys = [*contract.entity, contract.exposure_time, *contract.candidate, *contract.match]
    columns = [F.col(name).cast(CAST[rule.type]).alias(name) for name, rule in contract.columns.items()]
    cast = rows.select(*columns, SOURCE_FILE).repartition(FILES, *contract.entity)
    # Of two rows with one key the last delivered one counts, and without deliveries the first that converted.
    first = [F.asc_nulls_last(contract.conversion_time), F.xxhash64(*contents(contract))]
    if contract.delivered_at:
        first.insert(0, F.desc_nulls_last(contract.delivered_at))
    ordered = cast.sortWithinPartitions(*keys, *first, SOURCE_FILE)
    added = [StructField("reason", StringType()), StructField("status", StringType())]
    schema = StructType([*cast.schema.fields, *added])

    def check(batches: Iterator[arrow.RecordBatch]) -> Iterator[arrow.RecordBatch]:
        rules, before = row_schema(contract), None
        for batch in batches:
            frame = pl.DataFrame(pl.from_arrow(batch))
            found, before = all_reasons(frame.drop(SOURCE_FILE), contract, rules, keys, before)
            status = pl.Series(["kept", "quarantined"])[found.is_not_null().cast(pl.UInt32)]
            columns = [*batch.columns, found.to_arrow().cast(arrow.string()), status.to_arrow().cast(arrow.string())]
            yield arrow.RecordBatch.from_arrays(columns, names=schema.names)

    return ordered.mapInArrow(check, schema)


def contents(contract: Contract) -> list[str]:
    """The columns in which two rows that say the same agree: all but when they were delivered."""
    return [name for name in contract.columns if name != contract.delivered_at]


def all_reasons(
    frame: pl.DataFrame, contract: Contract, rules: pa.DataFrameSchema, keys: list[str], before: tuple | None
) -> tuple[pl.Series, tuple | None]:
    """Why each row of `frame` (sorted by `keys`) does not count, or null, and what its last good row says.

    `before` is what the last good row before this batch said. Of good rows with one key the first is kept; of the
    others one that says what the row before it says is a duplicate, and one that says something else was superseded by
    a later delivery, or is a duplicate as well where the contract knows no deliveries.
    """
    time = contract.exposure_time
    late = pl.col(contract.conversion_time) < pl.col(time)
    early = pl.when(late).then(pl.lit(f"{contract.conversion_time}: before {time}"))
    texts = frame.select(reasons(frame, rules).alias("rules"), early.alias("early"))
    found = texts.select(
        pl.concat_str("rules", "early", separator="; ", ignore_nulls=True).replace("", None)
    ).to_series()
    names = [*keys, *(name for name in contents(contract) if name not in keys)]
    good = frame.with_row_index("row").filter(found.is_null()).select("row", *names)
    if good.is_empty():
        return found, before

    def agrees(columns: list[str]) -> pl.Series:
        same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in columns)
        agree = good.select(same.alias("same")).to_series()
        first = good.select(columns).row(0)
        agree[0] = before is not None and first == before[: len(columns)]
        return agree

    again, alike = agrees(keys), agrees(names)
    twice = good["row"].filter(again)
    duplicate = pl.lit(f"duplicate of {'+'.join(keys)}")
    superseded = pl.lit(f"superseded by a later delivery of {'+'.join(keys)}") if contract.delivered_at else duplicate
    texts = pl.select(pl.when(alike.filter(again)).then(duplicate).otherwise(superseded)).to_series()
    return (found.scatter(twice, texts) if len(twice) else found), good.select(names).row(-1)


def _write_exposures(rows: DataFrame, contract: Contract, out: Path) -> None:
    check_columns(rows, contract)
    validated(rows, contract).write.partitionBy("status").mode("append").parquet(str(out))
    if not any(out.glob("status=kept/*.parquet")):
        raise IngestError(f"source of {contract.name} must hold at least one good exposure before DATE, got none")


def _write_sorted(rows: DataFrame, out: Path) -> None:
    rows.repartition(4, rows.columns[0]).sortWithinPartitions(*rows.columns).write.mode("append").parquet(str(out))


def _write_members(tables: dict[str, DataFrame], contract: Contract, out: Path) -> None:
    """Each table of sets in a folder of its own; rows that are there twice or say nothing are left out."""
    for name, set_id in contract.sets.items():
        rows = tables[f"members.{name}"]
        key = F.col(set_id).cast(CAST[contract.columns[set_id].type]).alias(set_id)
        [member] = set(rows.columns) - {set_id}
        _write_sorted(rows.select(key, member).dropna().distinct(), out / name)


def _rows(snapshot: Dataset, status: str) -> int:
    return sum(entry["rows"] for entry in snapshot.manifest["files"] if entry["path"].startswith(f"status={status}/"))


def _count(cycle: Cycle, spark: SparkSession, snapshot: Dataset, about: Dataset) -> None:
    """The fact of what was kept and what was not and why: rows, and files that were refused (their rows if known)."""
    files_of = pl.DataFrame(about.table()).filter(pl.col("outcome") == REFUSED)
    refused = [
        {"source": row["table"], "reason": f"file {row['name']}: {row['reason']}", "rows": row["rows"] or 0}
        for row in files_of.iter_rows(named=True)
    ]
    inputs = {"exposures": snapshot.content, "refused": sha256_json(refused)}
    key = cycle.lake.key("ingest_counts", __name__, inputs, None)
    if cycle.lake.find("ingest_counts", key) is None:
        rows = [{"source": "exposures", "reason": None, "rows": _rows(snapshot, "kept")}]
        bad = snapshot.under("status=quarantined")
        if bad:
            counted = spark.read.parquet(*bad).groupBy("reason").count().orderBy(F.desc("count"), "reason").limit(1000)
            rows += [{"source": "exposures", "reason": r["reason"], "rows": r["count"]} for r in counted.collect()]
        cycle.lake.write_fact("ingest_counts", key, rows + refused)
    cycle.remember({"ingest_counts": key})


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("ingest"))
