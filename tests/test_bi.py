"""What BI tools are told to do: the questions of examples/bi.sql on both forms of a release, and the recipes of
docs/bi.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import bi_questions
import contract_marts
import duckdb
import fake_scores
import fake_training
import pytest
import yaml

from jobs import warehouse

BIN = Path(sys.executable).parent
QUESTIONS = bi_questions.questions()


@pytest.fixture(scope="session")
def bi_folder(release: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder from which the recipes work as they stand: `warehouse` with the invented release, published with its
    Parquet files, and `examples`."""
    folder = tmp_path_factory.mktemp("bi")
    published = folder / "warehouse" / "releases" / release.database.parent.name
    published.mkdir(parents=True)
    (published / "mart.duckdb").symlink_to(release.database)
    warehouse.export_marts(release.database, published / "marts")
    pointer = {"release_id": published.name, "path": f"releases/{published.name}"}
    (folder / "warehouse" / "current.json").write_text(json.dumps(pointer))
    (folder / "warehouse" / "current").symlink_to(published)
    (folder / "examples").symlink_to(bi_questions.FILE.parent)
    return folder


def answers(connection: duckdb.DuckDBPyConnection) -> dict[str, list[tuple]]:
    return {name: connection.execute(statement).fetchall() for name, statement in QUESTIONS.items()}


@pytest.fixture(scope="session")
def answered(mart: str) -> dict[str, list[tuple]]:
    with duckdb.connect(mart, read_only=True) as connection:
        return answers(connection)


def test_every_question_is_answered_on_the_mart(answered: dict[str, list[tuple]]) -> None:
    assert len(QUESTIONS) >= 18
    assert [name for name, rows in answered.items() if not rows] == []


def test_parquet_views_give_the_same_answers(bi_folder: Path, answered: dict[str, list[tuple]]) -> None:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"set variable release = '{bi_folder / 'warehouse' / 'current'}'")
        connection.execute(bi_questions.VIEWS.read_text())
        assert answers(connection) == answered


def test_the_views_are_those_of_the_marts_that_are_asked() -> None:
    asked = set().union(*map(bi_questions.marts_asked, QUESTIONS.values()))
    view = r"create or replace view (\w+) as\nselect \* from read_parquet\(\S+ \|\| '/marts/\1\.parquet'\);"
    made = re.findall(view, bi_questions.VIEWS.read_text())
    assert made == sorted(asked)
    assert asked <= set(contract_marts.contracts())
    exposures = yaml.safe_load((warehouse.PROJECT / "models" / "exposures.yml").read_text())["exposures"]
    declared = next(exposure for exposure in exposures if exposure["name"] == "bi_questions")
    assert declared["depends_on"] == [f"ref('{mart}')" for mart in sorted(asked)]


def test_the_questions_that_bi_asks_are_there() -> None:
    asked = set().union(*map(bi_questions.marts_asked, QUESTIONS.values()))
    wanted = {"fct_accuracy_cost_by_k", "fct_calibration_by_slice", "fct_entity_scores", "fct_drift_by_field"}
    wanted |= {"fct_label_maturity", "fct_kpi_lift", "fct_decisions", "fct_decision_rules", "fct_slo"}
    assert wanted | {"fct_data_quality", "fct_alias_history"} <= asked


def test_the_contact_list_has_the_ten_best_entities_of_each_candidate(answered: dict[str, list[tuple]]) -> None:
    scores = fake_scores.night(f"refit-ffm-k{fake_training.NIGHTLY.verdict_k}")["scores"]
    expected = []
    for candidate in sorted({row["candidate_id"] for row in scores}):
        of_candidate = sorted((r for r in scores if r["candidate_id"] == candidate), key=lambda r: -r["raw_score"])
        expected += [(candidate, i, row["entity_id"]) for i, row in enumerate(of_candidate[:10], start=1)]
    assert [(row[1], row[3], row[4]) for row in answered["contact_list"]] == expected


def test_the_scores_of_an_entity_are_its_best_ten_in_order(answered: dict[str, list[tuple]]) -> None:
    scores = fake_scores.night(f"refit-ffm-k{fake_training.NIGHTLY.verdict_k}")["scores"]
    of_first = sorted((row for row in scores if row["entity_id"] == "h00"), key=lambda row: -row["raw_score"])
    found = [(row[0], row[1], row[2], row[4]) for row in answered["scores_of_an_entity"]]
    assert found == [("h00", i, row["candidate_id"], row["p"]) for i, row in enumerate(of_first[:10], start=1)]


def test_one_model_is_the_verdict_and_the_rules_are_those_of_one_decision(answered: dict[str, list[tuple]]) -> None:
    verdicts = [row[1] for row in answered["k_and_cost"] if row[-1]]
    assert verdicts == [fake_training.NIGHTLY.verdict_k]
    assert len(answered["rules_of_the_decision"]) == len({row[0] for row in answered["rules_of_the_decision"]}) == 5


def test_an_older_duckdb_reads_the_mart_with_comments_and_constraints(mart: str) -> None:
    told = """
        select
            (select count(*) from duckdb_columns() where comment is not null and schema_name = 'main'),
            (select count(*) from duckdb_columns() where not is_nullable and schema_name = 'main'),
            (select comment from duckdb_tables() where table_name = 'dim_release')
    """
    command = [str(BIN / "duckdb"), "-readonly", "-json", mart]
    with duckdb.connect(mart, read_only=True) as connection:
        [(columns, not_null, comment)] = connection.execute(told).fetchall()
        [(storage, newest)] = connection.execute(
            "select tags['storage_version'], version() from duckdb_databases() where database_name = current_database()"
        ).fetchall()
    assert storage == f"{warehouse.STORAGE}+"
    [older] = json.loads(subprocess.run([*command, told], capture_output=True, text=True, check=True).stdout)
    assert list(older.values()) == [columns, not_null, comment]
    assert columns > 500
    assert not_null > 100
    [other] = json.loads(subprocess.run([*command, "select version() as v"], capture_output=True, check=True).stdout)
    assert other["v"] < newest


def python_recipes(spark: bool) -> str:
    """The Python of docs/bi.md as one program, with or without Spark's; the first block says what a release is."""
    found = bi_questions.blocks("python")
    return "\n".join([found[0], *(code for code in found[1:] if ("pyspark" in code) == spark)])


def test_the_python_recipes_run_as_they_stand(
    bi_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(bi_folder)
    found: dict[str, Any] = {}
    exec(compile(python_recipes(spark=False), "docs/bi.md", "exec"), found)
    released = found["release"]().name
    # the path, the connection that moves on, and the engine each tell it
    assert capsys.readouterr().out.count(released) == 3
    with duckdb.connect(str(found["release"]() / "mart.duckdb"), read_only=True) as connection:
        counts = dict(connection.execute("select table_name, estimated_size from duckdb_tables()").fetchall())
    assert len(found["by_k"]) == counts["fct_accuracy_cost_by_k"]
    assert Counter(found["lists"]["candidate_id"]) == Counter(row["candidate_id"] for row in best_of_candidates())
    assert found["scores"].num_rows == counts["dim_entity"]
    assert set(found["drift"].is_latest_period) == {True}


def best_of_candidates() -> list[dict[str, Any]]:
    scored = fake_scores.night("m")["top_scores"]
    return [row for row in scored if row["rank_in_candidate"]]


def test_the_shell_recipes_run_as_they_stand(bi_folder: Path) -> None:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    for code in bi_questions.blocks("sh"):
        if "dbt build" in code:
            continue  # with the project that belongs to it, below
        done = subprocess.run(["sh", "-e"], input=code, cwd=bi_folder, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert "tiny-2017-12-25-0001" in done.stdout


@pytest.mark.slow
def test_the_dbt_recipe_reads_a_release_as_a_source(bi_folder: Path, tmp_path: Path) -> None:
    profiles, sources = bi_questions.blocks("yaml")
    (tmp_path / "profiles.yml").write_text(profiles)
    project = {
        "name": "reporting",
        "profile": "reporting",
        "version": "1.0.0",
        "flags": {"send_anonymous_usage_stats": False},
    }
    (tmp_path / "dbt_project.yml").write_text(yaml.safe_dump(project))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "sources.yml").write_text(sources)
    (tmp_path / "models" / "top.sql").write_text(
        "{{ config(materialized='table') }} select * from {{ source('fieldmart', 'fct_entity_scores') }}"
    )
    (tmp_path / "warehouse").symlink_to(bi_folder / "warehouse")
    (tmp_path / "dbt").write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "from dbt.cli.main import cli; cli()" "$@"\n')
    (tmp_path / "dbt").chmod(0o755)
    [code] = [code for code in bi_questions.blocks("sh") if "dbt build" in code]
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-e"], input=code, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    with duckdb.connect(str(tmp_path / "reporting.duckdb"), read_only=True) as connection:
        [(count,)] = connection.execute("select count(*) from top").fetchall()
    assert count == len(fake_scores.night("m")["top_scores"])


@pytest.mark.slow
def test_spark_gives_the_same_answers(
    spark: Any, bi_folder: Path, answered: dict[str, list[tuple]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bi_folder)
    exec(compile(python_recipes(spark=True), "docs/bi.md", "exec"), {})
    for name, statement in QUESTIONS.items():
        found = [tuple(row) for row in spark.sql(statement).collect()]
        assert len(found) == len(answered[name]), name
        # sums may be added up in another order, and ties of an order be in another one
        assert sorted(map(rounded, found)) == sorted(map(rounded, answered[name])), name


def rounded(row: tuple) -> str:
    return repr(tuple(f"{value:.9g}" if isinstance(value, float) else value for value in row))


def test_what_dbt_parsed_is_kept_for_the_next_build(tmp_path: Path, release: Any) -> None:
    """The second build, of another file and folder, parses nothing: what it knows was made by the first."""
    facts = {name: files for name, files in release.facts.items() if name in ("candidates", "score_candidates")}
    made = []
    for night in ("first", "second", "third"):
        database = tmp_path / night / "mart.duckdb"
        parsed = tmp_path / "another" if night == "third" else tmp_path / "kept"
        warehouse.build(database, facts, select="stg_fieldmart__candidates", parsed=parsed)
        manifest = json.loads((database.parent / "dbt" / "target" / "manifest.json").read_text())
        made.append({name: node["created_at"] for name, node in manifest["nodes"].items()})
    assert made[0] == made[1]
    assert not made[0].items() & made[2].items()
