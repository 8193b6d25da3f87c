"""jobs.warehouse: two builds into one file, what they leave, and what a broken fact looks like."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import fake_facts
import fake_release
import pyarrow.parquet as pq
import pytest
from fake_release import FakeRelease

from jobs import facts, warehouse


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> FakeRelease:
    return fake_release.build(tmp_path_factory.getbasetemp())


def tables(database: Path) -> set[str]:
    with duckdb.connect(str(database), read_only=True) as connection:
        rows = connection.execute("select table_name from duckdb_tables() where schema_name = 'main'").fetchall()
    return {name for (name,) in rows}


def test_the_two_builds_run_every_model_and_test_once_and_all_pass(release: FakeRelease) -> None:
    first, second = release.ran
    assert set(first) & set(second) == set()
    manifest = json.loads((release.database.parent / "dbt" / "target" / "manifest.json").read_text())
    nodes = {name for name, node in manifest["nodes"].items() if node["resource_type"] in ("model", "seed", "test")}
    ran = {name for name in first | second if not name.startswith("exposure.")}
    assert ran == nodes | set(manifest["unit_tests"])
    assert set((first | second).values()) == {"success", "pass", "no-op"}  # an exposure is no-op
    assert tables(release.database) == set(warehouse.marts(release.database))


@pytest.mark.slow
def test_two_builds_say_what_one_build_says(release: FakeRelease, tmp_path: Path) -> None:
    warehouse.build(tmp_path / "mart.duckdb", release.facts)
    assert warehouse.content_hash(tmp_path / "mart.duckdb") == warehouse.content_hash(release.database)
    for name, database in (("a", release.database), ("b", tmp_path / "mart.duckdb")):
        warehouse.export_marts(database, tmp_path / name)
    written = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}


def test_nothing_is_written_into_the_project(release: FakeRelease) -> None:
    assert not [name for name in ("target", "logs", "dbt_packages") if (warehouse.PROJECT / name).exists()]
    assert (release.database.parent / "dbt" / "target" / "manifest.json").is_file()


def test_marts_are_known_by_tag(release: FakeRelease) -> None:
    every, but_evidence = (warehouse.marts(release.database, but_tagged=tag) for tag in (None, "evidence"))
    assert set(every) > set(but_evidence)
    assert "fct_accuracy_cost_by_k" in set(every) - set(but_evidence)
    assert "dim_release" not in warehouse.marts(release.database, but_tagged=warehouse.OPERATIONAL)


def test_every_mart_is_exported_with_all_its_rows(release: FakeRelease, tmp_path: Path) -> None:
    warehouse.export_marts(release.database, tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == tables(release.database)
    with duckdb.connect(str(release.database), read_only=True) as connection:
        for path in tmp_path.iterdir():
            count = connection.execute(f"select count(*) from {path.stem}").fetchone()
            assert count == (pq.read_metadata(path).num_rows,), path.stem


def changed(database: Path, folder: Path, statement: str) -> str:
    """The content hash after `statement` was run on a copy of the database."""
    copy = folder / "mart.duckdb"
    copy.write_bytes(database.read_bytes())
    (folder / "dbt").unlink(missing_ok=True)
    (folder / "dbt").symlink_to(database.parent / "dbt")
    with duckdb.connect(str(copy)) as connection:
        connection.execute(statement)
    return warehouse.content_hash(copy)


def test_content_hash_sees_data_and_not_the_run(release: FakeRelease, tmp_path: Path) -> None:
    before = warehouse.content_hash(release.database)
    same = [
        "update dim_release set release_id = 'another'",
        "update fct_accuracy_cost_by_k set train_cpu_s = train_cpu_s * 2, is_dominated = not is_dominated",
        "update fct_training_cost set cpu_s = cpu_s * 2, slowest_partition = 7, is_skewed = not is_skewed",
        "insert into fct_test_openings select contract, cycle_date, cycle_date, cycle_date, built_at, 3, 1, true "
        "from dim_release",
        "update fct_scoring set scored_at = scored_at + interval 1 hour, wall_s = wall_s * 2, usd_per_1m_scores = 7",
        "update fct_entity_scores set scored_at = scored_at + interval 1 hour, data_age_when_scored_hours = 1",
        "delete from fct_score_blocks where block = 0",
        "create or replace table dim_entity as select * from dim_entity order by entity_id desc",
    ]
    other = ["update fct_entity_scores set p = p + 1e-15", "delete from dim_entity where entity_id = 'h00'"]
    other.append("update fct_training_cost set n_rows = n_rows + 1")
    other.append("update fct_scoring set scores_sha256 = 'another'")  # of scores that are not among the best
    assert {changed(release.database, tmp_path, statement) for statement in same} == {before}
    assert before not in {changed(release.database, tmp_path, statement) for statement in other}


def test_a_wrong_fact_stops_the_build_and_is_named(release: FakeRelease, tmp_path: Path) -> None:
    night = fake_facts.night()
    night["entities"][0]["candidates"] += 1  # one more than it was scored against
    database = tmp_path / "mart.duckdb"
    database.write_bytes(release.database.read_bytes())
    given = fake_facts.write(tmp_path / "facts", night)
    pattern = r"dbt build of .*mart\.duckdb failed: .*scores_are_complete: Got 1 result"
    with pytest.raises(warehouse.WarehouseError, match=pattern):
        warehouse.build(database, given, select="stg_fieldmart__entities dim_entity scores_are_complete")


@pytest.mark.parametrize(
    "broken",
    [
        # a test on staging that fails lets dbt pass over those on what is built from it
        ("parts_of_scoring_add_up", "ranks_start_at_one", "scores_add_up", "scores_are_probabilities"),
        ("scores_belong_to_known_entities_and_candidates", "what_is_served_is_said_once"),
    ],
)
def test_scores_that_contradict_each_other_stop_the_build(
    broken: tuple[str, ...], release: FakeRelease, tmp_path: Path
) -> None:
    night = fake_facts.night()
    night["score_candidates"][0] |= {"candidate_id": "unheard of", "entities": 7}
    night["score_entities"][3]["max_p"] = 1.0
    del night["top_scores"][5]
    database = tmp_path / "mart.duckdb"
    database.write_bytes(release.database.read_bytes())
    with duckdb.connect(str(database)) as connection:
        connection.execute("update dim_release set score_source = 'prior'")
        connection.execute("update fct_score_stages set share_of_time = 0.7 where is_dominant")
    given = fake_facts.write(tmp_path / "facts", night)
    with pytest.raises(warehouse.WarehouseError) as failed:
        warehouse.build(database, given, select=" ".join(broken))
    assert sorted(name for name in broken if f"{name}: Got " in str(failed.value)) == sorted(broken)


def test_build_refuses_facts_it_does_not_know_and_facts_without_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"facts: names must be among \[.*\], got \['sales'\]"):
        warehouse.build(tmp_path / "mart.duckdb", {"sales": "x.parquet"})
    with pytest.raises(ValueError, match="facts: models must have at least one Parquet file, got none"):
        warehouse.build(tmp_path / "mart.duckdb", {"models": []})


def test_reading_a_database_that_dbt_did_not_build(tmp_path: Path) -> None:
    with pytest.raises(warehouse.WarehouseError, match=r"mart\.duckdb has no dbt manifest .*: build it first"):
        warehouse.marts(tmp_path / "mart.duckdb")


def test_fake_facts_cover_every_fact() -> None:
    assert set(fake_facts.evidence()) | set(fake_facts.night()) == set(facts.FACTS)
