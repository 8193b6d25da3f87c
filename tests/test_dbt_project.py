"""The dbt project: agrees with the declared facts, keeps its promises to readers, and its formulas hold."""

from __future__ import annotations

import math
import re
import statistics
import tomllib
from pathlib import Path
from typing import Any

import duckdb
import fake_facts
import fake_release
import fake_scores
import numpy as np
import pyarrow as pa
import pytest
import yaml
from fake_training import NIGHTLY, SWEEP, Flavour
from scipy import stats

from jobs.facts import FACTS

ROOT = Path(__file__).resolve().parent.parent
DBT = ROOT / "dbt"


# What staging calls a fact's column where it is named differently: SQL has words of its own.
RENAMED = {"rows": "n_rows", "window": "window_periods"}


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_release.build(tmp_path_factory.getbasetemp()).database


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_release.build(tmp_path_factory.getbasetemp(), SWEEP).database


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
    kinds |= {pa.float32(): "DOUBLE", pa.bool_(): "BOOLEAN", pa.date32(): "DATE", pa.timestamp("us"): "TIMESTAMP"}
    for fact, schema in FACTS.items():
        described = query(database, f"describe staging.stg_fieldmart__{fact}")
        expected = [(RENAMED.get(field.name, field.name), kinds[field.type]) for field in schema]
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
    sql = "select exposures, conversions, observed_rate_lo, observed_rate_hi from fct_label_maturity"
    rows = query(database, sql)
    assert len(rows) > 10
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


def test_every_mart_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "marts.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(declared("marts"))


def test_seeds_of_a_sweep_are_averaged_and_all_shown(sweep: Path) -> None:
    losses = {model.id: [] for model in SWEEP.models()}
    for row in fake_facts.evaluation(SWEEP)["model_metrics"]:
        if row["split"] == "test":
            losses[row["model_id"]].append(row["sum_logloss"] / row["n"])
    seeds = {k: [losses[m.id][0] for m in SWEEP.models() if (m.algorithm, m.k) == ("ffm", k)] for k in SWEEP.ks}
    found = query(
        sweep,
        "select k, n_seeds, logloss_seed_mean, logloss_seed_sd, is_verdict, is_provisional, se_seed is null "
        "from fct_accuracy_cost_by_k where not is_baseline",
    )
    assert {row[0] for row in found} == set(SWEEP.ks)
    for k, n, mean, spread, is_verdict, is_provisional, no_error in found:
        assert (n, is_verdict, is_provisional, no_error) == (5, k == SWEEP.verdict_k, False, False)
        assert (mean, spread) == pytest.approx((statistics.mean(seeds[k]), statistics.stdev(seeds[k])), rel=1e-9)
    shown = query(sweep, "select count(*), count(distinct seed) from fct_seed_metrics where algorithm = 'ffm'")
    assert shown == [(30, 5)]


def test_one_seed_has_no_spread(database: Path) -> None:
    found = query(
        database, "select n_seeds, logloss_seed_mean = logloss, logloss_seed_sd, se_seed from fct_accuracy_cost_by_k"
    )
    assert set(found) == {(1, True, None, None)}


@pytest.mark.parametrize("flavour", [NIGHTLY, SWEEP], ids=lambda flavour: flavour.name)
def test_baselines_are_those_of_the_night_and_the_chosen_model(flavour: Flavour, database: Path, sweep: Path) -> None:
    found = query(
        database if flavour is NIGHTLY else sweep,
        "select algorithm, is_verdict, rank_among_baselines, model_id from fct_baselines order by logloss",
    )
    assert {row[0] for row in found} == {"ffm", "prior", *flavour.baselines}
    assert [row[3] for row in found if row[1]] == [f"ffm-k{flavour.verdict_k}"]
    ranks = [rank for _, is_verdict, rank, _ in found if not is_verdict]
    assert ranks == list(range(1, len(flavour.baselines) + 2))


def test_a_skewed_partition_is_found(database: Path, sweep: Path) -> None:
    sql = "select distinct k, n_partitions, rows_max_over_median from fct_training_cost where is_skewed"
    assert query(database, sql) == []
    # the last of four partitions has 14,000 rows, the others 4,000: 14 / 4
    assert query(sweep, sql) == [(SWEEP.mixed_k, 4, 3.5)]


def test_cost_of_training_is_that_of_its_stages(sweep: Path) -> None:
    facts = fake_facts.evaluation(SWEEP)["training_cost"]
    of_all = sum(row["cpu_s"] for row in facts)
    assert query(sweep, "select sum(cpu_s), sum(share_of_cpu) from fct_training_cost")[0] == pytest.approx(
        (of_all, len({row["model_id"] for row in facts})), rel=1e-9
    )


def test_overfitting_is_said_of_the_k_that_does(database: Path, sweep: Path) -> None:
    sql = "select distinct k from fct_training_curve where is_overfit_alarm and algorithm = 'ffm' order by k"
    assert query(database, sql) == []
    assert query(sweep, sql) == [(k,) for k in SWEEP.overfitting]
    kept = query(sweep, "select count(*), min(best_epoch), max(best_epoch) from fct_training_curve where is_best_epoch")
    curves = len({row["model_id"] for row in fake_facts.evaluation(SWEEP)["training_curve"]})
    assert kept == [(curves, 3, 3)]


# ---- scores ----


def test_entities_and_candidates_have_the_means_of_all_their_scores(database: Path) -> None:
    scored = fake_facts.night()["scores"]
    for mart, key, count in (
        ("dim_entity", "entity_id", "candidates_scored"),
        ("dim_candidate", "candidate_id", "entities_scored"),
    ):
        p: dict[str, list[float]] = {}
        for row in scored:
            p.setdefault(row[key], []).append(row["p"])
        found = query(database, f"select {key}, {count}, mean_p, max_p from {mart}")
        assert {row[0] for row in found} == set(p)
        for name, n, mean, highest in found:
            assert (n, highest) == (len(p[name]), max(p[name]))
            assert mean == pytest.approx(statistics.fmean(p[name]), rel=1e-12)


def test_the_best_of_both_sides_are_kept_and_no_other(database: Path) -> None:
    scored = fake_facts.night()["scores"]
    best: dict[str, set[tuple[str, str]]] = {}
    for key, flag in (("entity_id", "is_top_for_entity"), ("candidate_id", "is_top_for_candidate")):
        best[flag] = set()
        for name in {row[key] for row in scored}:
            mine = sorted((row for row in scored if row[key] == name), key=lambda row: -row["raw_score"])
            best[flag] |= {(row["entity_id"], row["candidate_id"]) for row in mine[: fake_scores.TOP_N]}
        found = query(database, f"select entity_id, candidate_id from fct_entity_scores where {flag}")
        assert set(found) == best[flag]
        assert len(found) == len(best[flag])
    [(rows,)] = query(database, "select count(*) from fct_entity_scores")
    assert rows == len(set.union(*best.values()))
    assert len(best["is_top_for_entity"]) < rows < len(scored)


def test_confidence_follows_from_the_share_of_unknown_fields(database: Path) -> None:
    found = query(database, "select confidence_band, min(oov_share), max(oov_share) from fct_entity_scores group by 1")
    # 0, 1, 4 and 7 fields of 20, in single precision
    shares = {band: (float(np.float32(low)), float(np.float32(high))) for band, low, high in found}
    expected = {"high": (0.0, 0.05), "medium": (0.2, 0.2), "low": (0.35, 0.35)}
    assert shares == {band: tuple(float(np.float32(x)) for x in ends) for band, ends in expected.items()}


def test_times_of_blocks_are_percentiles(database: Path) -> None:
    blocks = fake_facts.night()["score_blocks"]
    found = {
        row[0]: row[1:]
        for row in query(database, "select stage, p50_s, p90_s, p95_s, p99_s, max_s from fct_score_stages")
    }
    for stage in ("read", "prepare", "score", "rank", "write", "block"):
        seconds = [block["wall_s" if stage == "block" else f"{stage}_s"] for block in blocks]
        assert found[stage] == pytest.approx(np.percentile(seconds, [50, 90, 95, 99, 100]), rel=1e-12)
    # 2.5 of the 4.9 s of all blocks
    dominant = query(database, "select stage, share_of_time from fct_score_stages where is_dominant")
    assert dominant == [("score", pytest.approx(2.5 / 4.9))]


def test_only_dollars_follow_from_the_rates(database: Path) -> None:
    night, rates = fake_facts.night(), fake_facts.labels_and_rates()["rates"][0]
    [scoring], blocks = night["scoring"], night["score_blocks"]
    usd = scoring["cpu_s"] / 3600 * rates["usd_per_cpu_hour"]
    usd += sum(b["peak_rss_mib"] / 1024 * b["wall_s"] / 3600 for b in blocks) * rates["usd_per_gib_hour"]
    found = query(database, "select usd_per_1m_scores, pairs_per_s, skew, workers, blocks_resumed from fct_scoring")
    # 450 scores in 3 s; 1.6 s over a median of 1.1
    assert found[0] == (pytest.approx(usd / 450 * 1e6), 150.0, pytest.approx(1.6 / 1.1), 2, 1)


def test_scores_of_an_earlier_night_grow_old_and_say_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    database = fake_release.stale(tmp_path_factory.getbasetemp()).database
    marts = ("fct_entity_scores", "fct_scoring")
    told = [query(database, f"select distinct score_source, is_stale, staleness_hours from {mart}") for mart in marts]
    assert told == [[("stale", True, 168.0)]] * 2  # a week
    assert query(database, "select count(*) from fct_score_audits where is_of_served_scores") == [(0,)]
    said = dict(query(database, "select page, sentence from fct_findings where page in ('scores', 'decision')"))
    assert said["scores"].startswith(
        f"Stale: {fake_release.REFUSED} What is served are the scores that model refit-ffm-k1"
    )
    assert said["scores"].endswith("Refused before: psi (model).")
    assert said["decision"].endswith(f"The scores are those of the cycle of 2017-12-18: {fake_release.REFUSED}")
