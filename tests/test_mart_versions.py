"""A mart that must change gets a second version beside the first, as docs/marts.md tells it."""

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
