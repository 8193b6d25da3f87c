"""The tree of scores by date: what readers see, and that a date changes in one step."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from jobs import score_tree
from jobs.lake import Dataset, Lake

FIRST, SECOND = dt.date(2017, 12, 11), dt.date(2017, 12, 18)


def scores(warehouse: Path, key: str, values: list[float], day: dt.date) -> Dataset:
    """A data set of two files, whose column score_date says `day`."""
    lake = Lake(warehouse)
    with lake.writing("scores", key) as folder:
        for number, value in enumerate(values):
            table = pa.table({"entity_id": [f"e{number}"], "score_date": pa.array([day]), "p": [value]})
            pq.write_table(table, folder / f"part-{number}.parquet")
    return lake.get("scores", key)


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """Scores of one date, and stale ones: those of the same night served for the next date."""
    root = tmp_path / "warehouse"
    score_tree.point(root, "promo", FIRST, scores(root, "k1", [0.1, 0.2], FIRST))
    score_tree.point(root, "promo", SECOND, scores(root, "k2", [0.3, 0.4], FIRST))
    return root


ROWS = [(FIRST, "e0", 0.1), (FIRST, "e1", 0.2), (SECOND, "e0", 0.3), (SECOND, "e1", 0.4)]


def read(warehouse: Path) -> list[tuple]:
    files = f"{warehouse}/scores/promo/*/*.parquet"
    sql = f"select score_date, entity_id, p from read_parquet('{files}', hive_partitioning = true) order by all"
    return duckdb.sql(sql).fetchall()


def test_duckdb_reads_the_date_of_the_folder(warehouse: Path) -> None:
    assert read(warehouse) == ROWS


def test_spark_reads_the_date_of_the_folder(warehouse: Path, spark: SparkSession) -> None:
    table = spark.read.parquet(str(score_tree.root(warehouse, "promo")))
    assert dict(table.dtypes)["score_date"] == "date"
    found = table.select("score_date", "entity_id", "p").orderBy("score_date", "entity_id").collect()
    assert [tuple(row) for row in found] == ROWS
    assert table.where("score_date = '2017-12-18'").count() == 2


def test_a_date_is_replaced_and_others_stay(warehouse: Path) -> None:
    link = score_tree.point(warehouse, "promo", SECOND, scores(warehouse, "k3", [0.9], SECOND))
    assert link == warehouse / "scores" / "promo" / "score_date=2017-12-18"
    assert read(warehouse) == [*ROWS[:2], (SECOND, "e0", 0.9)]
    assert [path.name for path in link.parent.iterdir() if path.name.startswith(".")] == []


def test_pointing_again_changes_nothing(warehouse: Path) -> None:
    dataset = Lake(warehouse).get("scores", "k2")
    before = (warehouse / "scores" / "promo" / "score_date=2017-12-18").lstat().st_ino
    assert score_tree.point(warehouse, "promo", SECOND, dataset).lstat().st_ino == before


def test_a_crash_before_the_rename_leaves_the_old_scores(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise OSError("killed")

    new = scores(warehouse, "k3", [0.9], SECOND)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", crash)
        with pytest.raises(OSError, match="killed"):
            score_tree.point(warehouse, "promo", SECOND, new)
    assert read(warehouse) == ROWS


def test_the_tree_moves_with_its_warehouse(warehouse: Path) -> None:
    moved = warehouse.parent / "elsewhere"
    shutil.move(warehouse, moved)
    assert read(moved) == ROWS


def test_the_listing_names_dates_and_data_sets(warehouse: Path) -> None:
    (score_tree.root(warehouse, "promo") / "score_date=unknown").mkdir()
    shutil.rmtree(warehouse / "lake" / "scores" / "k1")
    found = score_tree.listing(warehouse, "promo")
    assert [(dated.date, dated.key, dated.is_whole) for dated in found] == [(FIRST, "k1", False), (SECOND, "k2", True)]
    assert score_tree.listing(warehouse, "other") == []
