"""Raw tables from Parquet or CSV files named in the contract.

A path is a file, a glob or a folder of such files, which may grow from night to night (jobs/source_files.py).
`exposures` is required. Without `entities` the latest row of each entity is who must be scored, and without
`candidates` the candidates of the last period before DATE are what they are scored against. CSV columns are converted
to the contract's types; a value that does not convert becomes null and is reported like any other null.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.contract import Contract
from jobs.periods import Periods
from jobs.source_files import READ, SourceFile, root_of

SPARK_TYPES = {
    "string": "string",
    "integer": "bigint",
    "number": "double",
    "boolean": "boolean",
    "timestamp": "timestamp",
}
SOURCE_FILE = "source_file"
PURCHASE_TYPES = {"basket_id": "string", "purchase_time": "timestamp"}


def places(contract: Contract) -> dict[str, str]:
    """The path of each table that the contract names."""
    source = contract.source
    named = {"exposures": source.exposures, "purchases": source.purchases}
    named |= {"entities": source.entities, "candidates": source.candidates}
    named |= {f"members.{name}": source.members[name] for name in contract.sets}
    return {table: path for table, path in named.items() if path}


def tables(
    spark: SparkSession,
    contract: Contract,
    periods: Periods,
    check: Callable[[DataFrame, Contract], None],
    found_files: Sequence[SourceFile],
) -> dict[str, DataFrame]:
    """exposures (with `source_file`), and purchases, entities, candidates and tables of sets (`members.<name>`), as
    seen at the start of the scoring period, from the files of `found_files` that count.

    `check` refuses exposures whose columns are not the contract's, before anything is done with them.
    """
    source = contract.source
    # A row without a time is not thrown away here: the quarantine says what became of it.
    time = F.col(contract.exposure_time)
    before = time.isNull() | (time < F.lit(periods.data_through))

    def read(table: str, path: str) -> DataFrame:
        return _read(spark, path, contract, [file for file in found_files if file.table == table])

    raw = read("exposures", str(source.exposures))
    check(raw, contract)
    exposures = raw.where(before)
    if contract.delivered_at:
        # What was not delivered yet at DATE is not known, neither a row nor a correction of one.
        came = F.col(contract.delivered_at)
        exposures = exposures.where(came.isNull() | (came < F.lit(periods.data_through)))
    # A conversion that has not happened yet at DATE is not known, nor is what it was worth.
    value_type = raw.schema[contract.value].dataType
    known = F.col(contract.conversion_time) < F.lit(periods.data_through)
    exposures = exposures.withColumn(
        contract.value, F.when(known, F.col(contract.value)).otherwise(F.lit(0).cast(value_type))
    )
    exposures = exposures.withColumn(contract.conversion_time, F.when(known, F.col(contract.conversion_time)))
    found = {"exposures": exposures}
    if source.purchases:
        moments = F.col("purchase_time") < F.lit(periods.data_through)
        found["purchases"] = read("purchases", source.purchases).where(moments).drop(SOURCE_FILE)
    for name in contract.sets:
        found[f"members.{name}"] = read(f"members.{name}", source.members[name]).drop(SOURCE_FILE)
    # Of an exposure that was delivered more than once the last word counts here too.
    current = exposures.drop(SOURCE_FILE)
    if contract.delivered_at:
        again = (*contract.entity, *contract.candidate, *contract.match, contract.exposure_time)
        current = _latest(current, again, contract.delivered_at)
    found["entities"] = (
        read("entities", source.entities).drop(SOURCE_FILE)
        if source.entities
        else _latest(current.where(time.isNotNull()), contract.entity, contract.exposure_time)
    )
    recent = current.where(time >= F.lit(periods.start(periods.scoring - 1)))
    found["candidates"] = (
        read("candidates", source.candidates).drop(SOURCE_FILE)
        if source.candidates
        else _latest(recent, (*contract.match, *contract.candidate), contract.exposure_time)
    )
    return found


def _latest(rows: DataFrame, keys: tuple[str, ...], time: str) -> DataFrame:
    order = Window.partitionBy(*keys).orderBy(F.desc(time), *sorted(set(rows.columns) - {time}))
    return rows.withColumn("_place", F.row_number().over(order)).where("_place = 1").drop("_place")


def _read(spark: SparkSession, path: str, contract: Contract, files: Sequence[SourceFile]) -> DataFrame:
    """The rows of the files that count, with `source_file`; all of `path` if it is no path of this machine, or if no
    file fits, so that Spark or the check of columns says what is wrong."""
    usable = sorted((file for file in files if file.outcome == READ), key=lambda file: file.columns)
    if not usable:
        is_text = all(file.path.suffix == ".csv" for file in files) if files else path.endswith(".csv")
        return _of_one_kind(spark, path, [path], contract, is_text)
    # Files with other columns, or types that fit as well, are read apart: Spark takes the first file's for all.
    parts = [
        _of_one_kind(spark, path, sorted(str(file.path) for file in alike), contract, is_text)
        for (_, is_text), alike in groupby(usable, lambda file: (file.columns, file.path.suffix == ".csv"))
    ]
    if len(parts) == 1:
        return parts[0]
    # Only what all of them have: a column that some lack is missing, not empty.
    common = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    if usable[0].table == "exposures":
        common = [*contract.columns, SOURCE_FILE]
    return reduce(lambda left, right: left.unionByName(right), (part.select(*common) for part in parts))


def _of_one_kind(spark: SparkSession, path: str, files: list[str], contract: Contract, is_text: bool) -> DataFrame:
    types = {name: SPARK_TYPES[column.type] for name, column in contract.columns.items()} | PURCHASE_TYPES
    root = root_of(path)
    # Folders named column=value below a folder are columns, as Spark has it.
    reader = spark.read.option("basePath", str(root)) if str(root) == path.rstrip("/") else spark.read
    if is_text:
        raw = reader.csv(files, header=True, inferSchema=False, enforceSchema=False)
        made = [F.expr(f"try_cast(`{c}` as {types[c]})").alias(c) if c in types else F.col(c) for c in raw.columns]
        return raw.select(*made, _source_file(root))
    found = reader.parquet(*files)
    # Nanoseconds arrive as integers (jobs/spark_session.py).
    nanos = [c for c, kind in found.dtypes if kind == "bigint" and types.get(c) == "timestamp"]
    times = {c: F.timestamp_micros(F.expr(f"`{c}` div 1000")) for c in nanos}
    return found.select("*", _source_file(root)).withColumns(times)


def _source_file(root: Path) -> Column:
    """The name of a row's file below `root`, as SourceFile has it."""
    place = F.regexp_replace("_metadata.file_path", "^file:/+", "/")
    below = F.replace(place, F.lit(f"{quote(str(root.resolve())).rstrip('/')}/"), F.lit(""))
    # A plus sign stands for itself in a path, not for a space.
    return F.url_decode(F.replace(below, F.lit("+"), F.lit("%2B"))).alias(SOURCE_FILE)
