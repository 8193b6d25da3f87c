"""The dbt project: agrees with the declared facts, keeps its promises to readers, and its formulas hold."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import duckdb
import fake_facts
import fake_release
import pyarrow as pa
import pytest
import yaml
from scipy import stats

from jobs.facts import FACTS

ROOT = Path(__file__).resolve().parent.parent
DBT = ROOT / "dbt"


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_release.build(tmp_path_factory.getbasetemp()).database


def declared(layer: str) -> dict[str, dict[str, Any]]:
    """What the files beside the models of a layer say, by model."""
    found = {}
    for path in sorted((DBT / "models" / layer).glob("*.yml")):
        for model in yaml.safe_load(path.read_text(encoding="utf-8")).get("models", []):
            found[model["name"]] = model
    return found


def query(database: Path, sql: str) -> list[tuple]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_no_init_file_hides_the_dbt_package() -> None:
    assert list(DBT.rglob("__init__.py")) == []


def test_telemetry_is_off() -> None:
    flags = yaml.safe_load((DBT / "dbt_project.yml").read_text(encoding="utf-8"))["flags"]
    assert flags["send_anonymous_usage_stats"] is False
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert config["browser"]["gatherUsageStats"] is False


def test_sources_are_the_declared_facts() -> None:
    sources = yaml.safe_load((DBT / "models/staging/_fieldmart__sources.yml").read_text(encoding="utf-8"))
    assert [table["name"] for table in sources["sources"][0]["tables"]] == list(FACTS)
    assert set(declared("staging")) == {f"stg_fieldmart__{name}" for name in FACTS}


def test_staging_has_every_column_of_its_fact_with_its_type(database: Path) -> None:
    kinds = {pa.string(): "VARCHAR", pa.float64(): "DOUBLE", pa.int64(): "BIGINT", pa.int32(): "INTEGER"}
    kinds |= {pa.bool_(): "BOOLEAN", pa.date32(): "DATE", pa.timestamp("us"): "TIMESTAMP"}
    for fact, schema in FACTS.items():
        described = query(database, f"describe staging.stg_fieldmart__{fact}")
        expected = [("n_rows" if field.name == "rows" else field.name, kinds[field.type]) for field in schema]
        assert [(name, kind) for name, kind, *_ in described] == expected, fact


@pytest.mark.parametrize("layer", ["staging", "intermediate", "marts", "findings"])
def test_every_model_is_described_down_to_its_grain(layer: str) -> None:
    models = declared(layer)
    assert set(models) == {path.stem for path in (DBT / "models" / layer).glob("*.sql")}
    for name, model in models.items():
        last = model["description"].split(". ")[-1]
        assert last.startswith("One row"), f"{name}: the description must end with the grain, got {last!r}"


def test_every_mart_has_a_contract_a_key_and_words_for_each_column() -> None:
    project = yaml.safe_load((DBT / "dbt_project.yml").read_text(encoding="utf-8"))
    assert project["models"]["fieldmart"]["marts"]["+contract"] == {"enforced": True}
    for name, model in declared("marts").items():
        keys = [test["primary_key"]["arguments"]["columns"] for test in model["data_tests"] if "primary_key" in test]
        assert len(keys) == 1, name
        columns = {column["name"]: column for column in model["columns"]}
        assert set(keys[0]) <= set(columns), name
        for column in columns.values():
            assert column["description"], f"{name}.{column['name']}"
            assert column["data_type"], f"{name}.{column['name']}"


def test_every_exposed_mart_exists_and_the_dashboard_says_what_it_reads() -> None:
    exposures = yaml.safe_load((DBT / "models/exposures.yml").read_text(encoding="utf-8"))["exposures"]
    read = {exposure["name"]: {ref[5:-2] for ref in exposure["depends_on"]} for exposure in exposures}
    assert set().union(*read.values()) <= set(declared("marts"))
    code = (ROOT / "dashboard" / "queries.py").read_text(encoding="utf-8")
    assert read["dashboard"] == {name for name in declared("marts") if f"from {name}" in code or f"join {name}" in code}


def test_psi_is_that_of_its_definition(database: Path) -> None:
    counts: dict[tuple, dict[str, int]] = {}
    for row in fake_facts.night()["drift_bins"]:
        counts.setdefault((row["subject"], row["field"], row["period"]), {})[row["bin"]] = row["n"]
    sql = "select 'field', field, period, psi, psi_expected from fct_drift_by_field union all "
    sql += "select 'score', field, period, psi, psi_expected from fct_score_drift"
    found = query(database, sql)
    assert len(found) == 4 * (len(fake_facts.FIELDS) + 1)
    for subject, field, period, psi, expected in found:
        old, new = counts[subject, field, None], counts[subject, field, period]
        size_old, size_new = sum(old.values()), sum(new.values())
        by_hand = 0.0
        for name in old:
            share_old = (old[name] + 0.5) / (size_old + 0.5 * len(old))
            share_new = (new[name] + 0.5) / (size_new + 0.5 * len(new))
            by_hand += (share_new - share_old) * math.log(share_new / share_old)
        assert psi == pytest.approx(by_hand, rel=1e-12)
        assert expected == pytest.approx((len(old) - 1) * (1 / size_old + 1 / size_new), rel=1e-12)


def test_intervals_of_rates_are_wilsons(database: Path) -> None:
    rows = query(
        database,
        "select n, conversions, observed_rate_lo, observed_rate_hi from fct_reliability union all "
        "select exposures, conversions, observed_rate_lo, observed_rate_hi from fct_label_maturity",
    )
    assert len(rows) > 20
    for n, conversions, lo, hi in rows:
        interval = stats.binomtest(conversions, n).proportion_ci(0.95, method="wilson")
        assert (lo, hi) == pytest.approx((interval.low, interval.high), abs=1e-7)


def test_normalized_entropy_is_logloss_over_that_of_the_rate(database: Path) -> None:
    rows = query(
        database,
        "select logloss, conversions / n, normalized_entropy from fct_accuracy_cost_by_k union all "
        "select logloss, conversions / n, normalized_entropy from fct_period_metrics",
    )
    for logloss, rate, normalized in rows:
        assert normalized == pytest.approx(logloss / stats.bernoulli(rate).entropy(), rel=1e-9)
