"""The slow oracle of `score_inputs`: every entity × candidate pair as a row, encoded like a training row."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import encode
from jobs.cycle import Cycle
from jobs.lake import Dataset


def pairs(cycle: Cycle, spark: SparkSession) -> DataFrame:
    """The cross join of entity list and offer list within `match`, with the columns that the contract's fields need."""
    contract = cycle.contract
    people = spark.read.parquet(*cycle.dataset("entity_list").files)
    offers = spark.read.parquet(*cycle.dataset("offer_list").files)
    by_entity = {c for rule in contract.fields if rule.side == "entity" for c in rule.columns} | set(contract.entity)
    needed = {c for rule in contract.fields for c in rule.columns} | set(contract.candidate)
    by_entity |= {c for c in needed - set(contract.candidate) if c not in offers.columns}
    left = sorted(by_entity - set(contract.match))
    right = sorted(needed - by_entity - set(contract.match))
    people, offers = people.select(*left, *contract.match), offers.select(*right, *contract.match).distinct()
    joined = people.join(offers, on=list(contract.match), how="inner") if contract.match else people.crossJoin(offers)
    return joined.withColumn("period_no", F.lit(cycle.periods.scoring))


def row_values(cycle: Cycle, spark: SparkSession, base_rate: float) -> pl.DataFrame:
    """entity_id, candidate_id, match_id and v_<field> of every pair by the path of training rows, values as text."""
    tables = encode.events(cycle, spark)
    keep = encode.keys(cycle.contract)
    rows = encode.values(pairs(cycle, spark), cycle.contract, cycle.periods, tables, base_rate, keep)
    return pl.DataFrame(rows.toArrow()).cast(pl.String)


def row_features(cycle: Cycle, values: pl.DataFrame, vocabulary: pa.Table) -> pl.DataFrame:
    """The same with the feature id of each value as f_<field>, sorted."""
    rows = pl.DataFrame(vocabulary)
    for name in cycle.contract.field_names:
        mine = rows.filter(pl.col("field") == name)
        known = mine.filter(pl.col("value").is_not_null())
        oov = mine.filter(pl.col("value").is_null())["feature_id"].item()
        ids = pl.col(f"v_{name}").replace_strict(known["value"], known["feature_id"], default=oov)
        values = values.with_columns(ids.cast(pl.Int32).alias(f"f_{name}"))
    return _sorted(values, cycle)


def expanded(cycle: Cycle, inputs: Dataset) -> pl.DataFrame:
    """The same of `score_inputs`: entities × candidates of the match; a pair without a row has the field's default."""
    root = inputs.root
    layout = json.loads((root / "layout.json").read_text())
    candidates = pl.read_parquet(root / "candidates" / "part-00000.parquet")
    found = []
    for number in range(layout["blocks"]):
        folder = root / f"block={number:05d}"
        entities = pl.read_parquet(folder / "entities" / "part-00000.parquet", hive_partitioning=False)
        table = pl.read_parquet(folder / "pairs" / "part-00000.parquet", hive_partitioning=False)
        rows = entities.with_row_index("entity").cast({"entity": pl.Int32}).join(candidates, on="match_id")
        for place, name in enumerate(layout["pair"]):
            mine = table.filter(pl.col("field") == place).rename({"key": f"k_{name}", "feature": f"f_{name}"})
            rows = rows.join(mine.drop("field"), on=["entity", f"k_{name}"], how="left", validate="m:1")
            rows = rows.with_columns(pl.col(f"f_{name}").fill_null(layout["default"][name]))
        found.append(rows)
    return _sorted(pl.concat(found), cycle)


def _sorted(rows: pl.DataFrame, cycle: Cycle) -> pl.DataFrame:
    features = [f"f_{name}" for name in cycle.contract.field_names]
    return rows.select(*encode.KEYS, *features).sort(*encode.KEYS)


def root_of(inputs: Dataset) -> Path:
    return inputs.root
