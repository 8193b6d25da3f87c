"""The same facts always give the same marts, however they lie in files and however many threads dbt has."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import fake_facts
import fake_release
import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import facts, warehouse


def dealt_out(folder: Path, rows: dict[str, fake_facts.Rows]) -> dict[str, list[str]]:
    """Each fact in another order of rows, in up to three files, the last first."""
    rng, given = np.random.default_rng(11), {}
    for name, listed in rows.items():
        parts = np.array_split(rng.permutation(len(listed)), 3)
        tables = [facts.table(name, [listed[i] for i in part]) for part in parts if len(part)]
        tables = tables or [facts.table(name, [])]
        (folder / name).mkdir(parents=True)
        paths = [folder / name / f"part-{number}.parquet" for number in range(len(tables))]
        for path, table in zip(paths, tables, strict=True):
            pq.write_table(table, path)
        given[name] = [str(path) for path in reversed(paths)]
    return given


@pytest.mark.slow
def test_the_same_facts_give_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """Two builds with two threads against one with four over files dealt out anew: equal hashes and Parquet files."""
    release = fake_release.build(tmp_path_factory.getbasetemp())
    given = dealt_out(tmp_path / "facts", fake_facts.evidence() | fake_facts.night())
    again = tmp_path / "again" / "mart.duckdb"
    again.parent.mkdir()
    warehouse.build(again, given, threads=4)
    assert warehouse.content_hash(again) == warehouse.content_hash(release.database)
    written = []
    for name, database in (("one", release.database), ("two", again)):
        warehouse.export_marts(database, tmp_path / name)
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert {name for name in written[0] if written[0][name] != written[1].get(name)} == set()
    assert set(written[0]) == set(written[1])


def test_the_calendar_is_that_of_iso_8601(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every day of whole years, one before the first and one after the last that the release names, once."""
    database = fake_release.build(tmp_path_factory.getbasetemp()).database
    with duckdb.connect(str(database), read_only=True) as mart:
        rows = mart.execute(
            "select date_day, iso_year, iso_week, iso_weekday, calendar_quarter, month_from, week_from, is_weekend"
            " from dim_date order by date_day"
        ).fetchall()
        held = mart.execute("select period, count(*), min(date_day) from dim_date group by period").fetchall()
        [(through,)] = mart.execute("select cast(data_through as date) from dim_release").fetchall()
        periods = {row[0] for row in mart.execute("select period from fct_label_maturity").fetchall()}
    first, last = rows[0][0], rows[-1][0]
    assert ((first.month, first.day), (last.month, last.day)) == ((1, 1), (12, 31))
    assert first.year < min(periods).year
    assert last.year > max(periods).year
    assert [row[0] for row in rows] == [first + dt.timedelta(days=i) for i in range((last - first).days + 1)]
    for day, year, week, weekday, quarter, month_from, week_from, is_weekend in rows:
        assert (year, week, weekday) == tuple(day.isocalendar())
        assert (quarter, month_from) == ((day.month + 2) // 3, day.replace(day=1))
        assert (week_from, is_weekend) == (day - dt.timedelta(days=weekday - 1), weekday > 5)
    # a period that begins where the data ends has no day yet
    assert {period for period, *_ in held} == {period for period in periods if period < through} | {None}
    # weeks: what a period holds begins with it and is seven days at most (the last may not be over)
    assert all(1 <= n <= 7 and begin == period for period, n, begin in held if period)


@pytest.mark.slow
def test_the_same_night_published_again_replaces_its_rows(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Marts are whole tables: a second build into the same file leaves no row of the first."""
    release = fake_release.build(tmp_path_factory.getbasetemp())
    database = tmp_path / "mart.duckdb"
    database.write_bytes(release.database.read_bytes())
    night = fake_facts.night()
    [kept, *_] = night["ingest_counts"] if "ingest_counts" in night else fake_facts.labels_and_rates()["ingest_counts"]
    given = fake_facts.write(tmp_path / "facts", {"ingest_counts": [kept]})
    warehouse.build(database, given, select="stg_fieldmart__ingest_counts fct_data_quality")
    with duckdb.connect(str(database), read_only=True) as mart:
        assert mart.execute("select count(*) from fct_data_quality").fetchall() == [(1,)]
