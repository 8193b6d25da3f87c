"""Marts that change: a second version beside the first, as docs/marts.md tells it, and a file that is built again."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import duckdb
import pytest
from fake_release import FakeRelease

from jobs import warehouse

DOCS = Path(__file__).resolve().parent.parent / "docs" / "marts.md"


def test_a_second_version_stands_beside_the_first(
    release: FakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "dbt"
    shutil.copytree(warehouse.PROJECT, project)
    mart = project / "models" / "marts" / "fct_data_quality"
    [recipe] = re.findall(r"```yaml\n(    latest_version: 2\n.*?)```", DOCS.read_text(), re.DOTALL)
    declared = mart.with_suffix(".yml").read_text()
    mart.with_suffix(".yml").write_text(declared.replace("    data_tests:\n", f"{recipe}    data_tests:\n", 1))
    second = mart.with_suffix(".sql").read_text().replace("share_of_source", "share")
    mart.with_name("fct_data_quality_v2.sql").write_text(second)

    monkeypatch.setattr(warehouse, "PROJECT", project)
    database = tmp_path / "mart.duckdb"
    given = {name: release.facts[name] for name in ("ingest_counts",)}
    warehouse.build(database, given, select="stg_fieldmart__ingest_counts fct_data_quality", parsed=tmp_path / "parsed")
    assert {"fct_data_quality", "fct_data_quality_v2"} <= set(warehouse.marts(database))
    with duckdb.connect(str(database), read_only=True) as connection:
        first, later = (
            connection.execute(f"select {share}, * exclude ({share}) from {table} order by all").fetchall()
            for table, share in (("fct_data_quality", "share_of_source"), ("fct_data_quality_v2", "share"))
        )
    assert first == later
    assert len(first) > 1


def test_a_file_that_is_built_again_may_hold_a_view_where_a_table_belongs(release: FakeRelease, tmp_path: Path) -> None:
    """As on the machine of somebody who works on a mart."""
    database = tmp_path / "mart.duckdb"
    given = {name: release.facts[name] for name in ("ingest_counts",)}
    with duckdb.connect(str(database)) as connection:
        connection.execute("create view fct_data_quality as select 1 as x; create schema staging")
        connection.execute("create table staging.stg_fieldmart__ingest_counts as select 1 as x")
    for _ in range(2):
        warehouse.build(database, given, select="stg_fieldmart__ingest_counts fct_data_quality")
    with duckdb.connect(str(database), read_only=True) as connection:
        [(rows,)] = connection.execute("select count(*) from fct_data_quality where is_kept").fetchall()
        [(comment,)] = connection.execute(
            "select comment from duckdb_columns() where table_name = 'fct_data_quality' and column_name = 'source'"
        ).fetchall()
    assert rows >= 1
    assert comment == "Input of the contract."
