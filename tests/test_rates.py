"""Other rates in conf/rates.yml, the same facts otherwise: only dollars change, and what is compared in dollars."""

from __future__ import annotations

from pathlib import Path

import duckdb
import fake_facts
import pytest
from fake_release import FakeRelease

from jobs import warehouse

# Judged by cost: which model is cheaper, and so which of two that are equally good is on the front.
COMPARED = {
    ("fct_accuracy_cost_by_k", "is_dominated"),
    ("fct_accuracy_cost_by_k", "is_on_front"),
    ("fct_incumbent_comparison", "cost_relative"),
    ("fct_incumbent_comparison", "is_cheaper"),
    ("fct_incumbent_comparison", "allowed_delta"),
    ("fct_incumbent_comparison", "is_earned"),
    ("fct_findings", "sentence"),
}


def changed_columns(one: Path, other: Path) -> set[tuple[str, str]]:
    """(mart, column) where two builds differ; rows are compared as multisets of each column with the mart's key."""
    found = set()
    with duckdb.connect() as db:
        db.execute(f"attach '{one}' as a (read_only); attach '{other}' as b (read_only)")
        marts = db.execute("select table_name from duckdb_tables() where database_name = 'a' and schema_name = 'main'")
        for (mart,) in marts.fetchall():
            columns = db.execute(f"select column_name from (describe a.main.{mart})").fetchall()
            for (column,) in columns:
                halves = [f'select "{column}" as x from {where}.main.{mart}' for where in "ab"]
                both = [f"({halves[i]} except all {halves[1 - i]})" for i in (0, 1)]
                [[n]] = db.execute(f"select count(*) from ({both[0]} union all {both[1]})").fetchall()
                if n:
                    found.add((mart, column))
    return found


@pytest.mark.slow
def test_other_rates_change_dollars_and_nothing_else(sweep: FakeRelease, tmp_path: Path) -> None:
    [rates] = fake_facts.labels_and_rates()["rates"]
    dearer = rates | {"usd_per_cpu_hour": 0.4, "usd_per_gib_hour": 0.01, "usd_per_gib_month": 0.1, "rates_sha": "other"}
    given = sweep.facts | fake_facts.write(tmp_path / "facts", {"rates": [dearer]})
    database = tmp_path / "release" / "mart.duckdb"
    warehouse.build(database, given)
    found = changed_columns(sweep.database, database)
    dollars = {(mart, column) for mart, column in found if "usd" in column.split("_")}
    assert found - dollars <= COMPARED | {("dim_release", "rates_sha")}
    assert {("fct_accuracy_cost_by_k", "usd_per_1m_scores"), ("fct_nights", "usd")} <= dollars
    # Ten times the rate of the CPU is ten times its part of the cost.
    ratio = "select usd_by_rate from {}.main.fct_cost_sensitivity where is_verdict and rate = 'usd_per_cpu_hour'"
    with duckdb.connect() as db:
        db.execute(f"attach '{sweep.database}' as a (read_only); attach '{database}' as b (read_only)")
        [[before]], [[after]] = (db.execute(ratio.format(where)).fetchall() for where in "ab")
    assert after == pytest.approx(10 * before)
