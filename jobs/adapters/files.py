"""Raw tables from Parquet or CSV files named in the contract.

`exposures` is required. Without `entities` the latest row of each entity is who must be scored, and without
`candidates` the candidates of the last period before DATE are what they are scored against. CSV columns are converted
to the contract's types; a value that does not convert becomes null and is reported like any other null.
"""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.contract import Contract
from jobs.periods import Periods

SPARK_TYPES = {
    "string": "string",
    "integer": "bigint",
    "number": "double",
    "boolean": "boolean",
    "timestamp": "timestamp",
}
PURCHASE_TYPES = {"basket_id": "string", "purchase_time": "timestamp"}


def tables(
    spark: SparkSession, contract: Contract, periods: Periods, check: Callable[[DataFrame, Contract], None]
) -> dict[str, DataFrame]:
    """exposures, and purchases, entities, candidates and tables of sets (`members.<name>`), as seen at the start of the
    scoring period.

    `check` refuses exposures whose columns are not the contract's, before anything is done with them.
    """
    source = contract.source
    # A row without a time is not thrown away here: the quarantine says what became of it.
    time = F.col(contract.exposure_time)
    before = time.isNull() | (time < F.lit(periods.data_through))
    raw = _read(spark, str(source.exposures), contract)
    check(raw, contract)
    exposures = raw.where(before)
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
        found["purchases"] = _read(spark, source.purchases, contract).where(moments)
    for name in contract.sets:
        found[f"members.{name}"] = _read(spark, source.members[name], contract)
    found["entities"] = (
        _read(spark, source.entities, contract)
        if source.entities
        else _latest(exposures.where(time.isNotNull()), contract.entity, contract.exposure_time)
    )
    recent = exposures.where(time >= F.lit(periods.start(periods.scoring - 1)))
    found["candidates"] = (
        _read(spark, source.candidates, contract)
        if source.candidates
        else _latest(recent, (*contract.match, *contract.candidate), contract.exposure_time)
    )
    return found


def _latest(rows: DataFrame, keys: tuple[str, ...], time: str) -> DataFrame:
    order = Window.partitionBy(*keys).orderBy(F.desc(time), *sorted(set(rows.columns) - {time}))
    return rows.withColumn("_place", F.row_number().over(order)).where("_place = 1").drop("_place")


def _read(spark: SparkSession, path: str, contract: Contract) -> DataFrame:
    types = {name: SPARK_TYPES[column.type] for name, column in contract.columns.items()} | PURCHASE_TYPES
    if not path.endswith(".csv"):
        found = spark.read.parquet(path)
        # Nanoseconds arrive as integers (jobs/spark_session.py).
        nanos = [c for c, kind in found.dtypes if kind == "bigint" and types.get(c) == "timestamp"]
        return found.withColumns({c: F.timestamp_micros(F.expr(f"`{c}` div 1000")) for c in nanos})
    raw = spark.read.csv(path, header=True, inferSchema=False, enforceSchema=False)
    return raw.select(
        *(F.expr(f"try_cast(`{c}` as {types[c]})").alias(c) if c in types else F.col(c) for c in raw.columns)
    )
