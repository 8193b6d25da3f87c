"""Every read of the dashboard: the current release's path, and one query per mart.

`fct_<word>` is read by `<word>` here and drawn by `figures.<word>`. Results are cached by the release's path, whose
content never changes; a new release has a new path. Every reading raises NoRelease, whose text says what to run, when
there is no release, no such mart or no row in it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import streamlit as st

ADVICE = "Run `make nightly` to build and publish one."


class NoRelease(RuntimeError):
    """Nothing to show; the message is a sentence for the reader."""


def warehouse_root(arguments: Sequence[str]) -> Path:
    """`--warehouse` among the arguments, else $FIELDMART_WAREHOUSE, else ./warehouse."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--warehouse", default=os.environ.get("FIELDMART_WAREHOUSE") or "warehouse")
    return Path(parser.parse_known_args(arguments)[0].warehouse)


def current_mart(root: Path) -> str:
    """Path of the published release's mart.duckdb."""
    pointer = root / "current.json"
    if not pointer.is_file():
        raise NoRelease(f"No release has been published in the warehouse `{root}`. {ADVICE}")
    try:
        path = root / json.loads(pointer.read_text(encoding="utf-8"))["path"] / "mart.duckdb"
    except (ValueError, KeyError, TypeError) as error:
        raise NoRelease(f"`{pointer}` does not name a release ({error!r}). {ADVICE}") from None
    if not path.is_file():
        raise NoRelease(f"`{pointer}` points to `{path}`, which does not exist. {ADVICE}")
    return str(path.resolve())


@st.cache_data(show_spinner=False, max_entries=500)
def _rows(mart: str, table: str, sql: str, parameters: Sequence[Any] = (), may_be_empty: bool = False) -> pd.DataFrame:
    """Rows of `sql`, which reads `table` above all."""
    try:
        with duckdb.connect(mart, read_only=True) as connection:
            rows = connection.execute(sql, parameters).df()
    except duckdb.CatalogException:
        raise NoRelease(f"This release has no mart `{table}`, or an older form of it. {ADVICE}") from None
    except duckdb.Error as error:
        raise NoRelease(f"`{mart}` cannot be read ({str(error).splitlines()[0]}). {ADVICE}") from None
    if rows.empty and not may_be_empty:
        raise NoRelease(f"The mart `{table}` of this release has no rows to show here. {ADVICE}")
    return rows


def release(mart: str, now: dt.datetime | None = None) -> dict[str, Any]:
    """The release: its columns, and `summary`, which says in words how old data and release are at `now` (UTC)."""
    # To the hour: the age is shown in hours, and the cache would never be hit otherwise.
    hour = (now or dt.datetime.now(dt.UTC)).replace(minute=0, second=0, microsecond=0, tzinfo=None)
    sql = """
        select
            *,
            format(
                'Release {} · contract {} · cycle of {} · data before {}, {} days old at the cycle date · built {}',
                release_id, contract, cycle_date, strftime(data_through, '%Y-%m-%d %H:%M'), data_age_days,
                case
                    when built_at is null then 'at an unknown time'
                    when date_diff('hour', built_at, cast(? as timestamp)) < 1 then 'within the last hour'
                    when date_diff('hour', built_at, cast(? as timestamp)) < 48
                        then date_diff('hour', built_at, cast(? as timestamp)) || ' hours ago'
                    else date_diff('day', built_at, cast(? as timestamp)) || ' days ago'
                end
            ) as summary
        from dim_release
    """
    return _rows(mart, "dim_release", sql, [hour] * 4).to_dict("records")[0]


def finding(mart: str, page: str) -> str:
    """The page's sentence."""
    sql = "select sentence from fct_findings where page = ?"
    return str(_rows(mart, "fct_findings", sql, [page])["sentence"].iloc[0])


def decision_rules(mart: str) -> pd.DataFrame:
    """Rules of the release's decision: those that do not hold first."""
    sql = """
        select rule, severity, mart, metric, operator, threshold, value, headroom, outcome, why
        from fct_decision_rules
        where is_of_release
        order by case outcome when 'fail' then 1 when 'missing' then 2 else 3 end, severity, seq
    """
    return _rows(mart, "fct_decision_rules", sql)


def decisions(mart: str) -> pd.DataFrame:
    """The decision log, newest first."""
    sql = """
        select cycle_date, verdict, k, reason, candidate_model_id, champion_model_id, decided_at, decision_id
        from fct_decisions
        order by seq desc
    """
    return _rows(mart, "fct_decisions", sql)


def accuracy_cost_by_k(mart: str) -> pd.DataFrame:
    """Candidates of the seed that goes live: FFM by k, then the baselines."""
    sql = "select * from fct_accuracy_cost_by_k order by is_baseline, k, logloss, model_id"
    return _rows(mart, "fct_accuracy_cost_by_k", sql)


def seed_metrics(mart: str) -> pd.DataFrame:
    """Every seed of every k of FFM."""
    sql = "select * from fct_seed_metrics where algorithm = 'ffm' order by k, seed, model_id"
    return _rows(mart, "fct_seed_metrics", sql)


def test_openings(mart: str) -> pd.DataFrame:
    """When test periods were looked at, newest first; without rows where no opening is on record."""
    sql = """
        select test_from, test_through, nth, opened_at, cycle_date, n_models
        from fct_test_openings
        order by opened_at desc
    """
    return _rows(mart, "fct_test_openings", sql, may_be_empty=True)


def baselines(mart: str) -> pd.DataFrame:
    """The chosen model and the best of every other algorithm, best first."""
    return _rows(mart, "fct_baselines", "select * from fct_baselines order by logloss, algorithm")


def training_curve(mart: str) -> pd.DataFrame:
    """Epochs of the FFM candidates of the seed that goes live, by k."""
    sql = """
        select *
        from fct_training_curve
        where role = 'candidate' and is_shipping_seed and algorithm = 'ffm' and valid_logloss is not null
        order by k, model_id, epoch
    """
    return _rows(mart, "fct_training_curve", sql)


def training_cost(mart: str) -> pd.DataFrame:
    """Stages of all candidates, the most skewed first."""
    sql = """
        select *
        from fct_training_cost
        where role = 'candidate'
        order by greatest(rows_max_over_median, wall_max_over_median) desc, cpu_s desc, model_id, stage
    """
    return _rows(mart, "fct_training_cost", sql)


def lever_gain(mart: str) -> pd.DataFrame:
    """The levers, cheapest first within those that help, harm or do neither; without rows until they were measured."""
    sql = """
        select *
        from fct_lever_gain
        order by is_reference desc, is_helpful desc, is_harmful, cpu_ratio, delta_logloss_relative, lever, setting
    """
    return _rows(mart, "fct_lever_gain", sql, may_be_empty=True)


def calibrated_models(mart: str) -> pd.DataFrame:
    """Models with calibration by slice and their names: the chosen one first."""
    sql = """
        select distinct
            slices.model_id,
            models.label
            || case when slices.is_verdict then ' (chosen)' else '' end as name,
            slices.is_verdict,
            slices.k
        from fct_calibration_by_slice as slices
        inner join dim_model as models on slices.model_id = models.model_id
        order by slices.is_verdict desc, slices.k, slices.model_id
    """
    return _rows(mart, "fct_calibration_by_slice", sql)


def calibration_by_slice(mart: str, model_id: str, at_most: int = 25) -> pd.DataFrame:
    """The model's slices with the most evidence of miscalibration, worst first; those too small to judge last."""
    sql = "select * from fct_calibration_by_slice where model_id = ? order by worst_rank limit ?"
    return _rows(mart, "fct_calibration_by_slice", sql, [model_id, at_most])


def reliability(mart: str, model_id: str) -> pd.DataFrame:
    """The model's bins in the order of p."""
    return _rows(mart, "fct_reliability", "select * from fct_reliability where model_id = ? order by bin", [model_id])


def drift_by_field(mart: str) -> pd.DataFrame:
    """Fields and periods, the field that moved most in the latest period first."""
    sql = """
        select
            *,
            max(psi_excess) filter (where is_latest_period) over (partition by field) as latest_excess
        from fct_drift_by_field
        order by latest_excess desc nulls last, field, period
    """
    return _rows(mart, "fct_drift_by_field", sql)


def score_drift(mart: str) -> pd.DataFrame:
    """The score's distribution against training, by period."""
    return _rows(mart, "fct_score_drift", "select * from fct_score_drift order by field, period")


def label_maturity(mart: str) -> pd.DataFrame:
    """Observed rates by period."""
    return _rows(mart, "fct_label_maturity", "select * from fct_label_maturity order by period")


def kpi_lift(mart: str) -> pd.DataFrame:
    """The model against each baseline, by objective."""
    sql = "select * from fct_kpi_lift where policy = 'model' order by objective, baseline"
    return _rows(mart, "fct_kpi_lift", sql)


def value_by_period(mart: str) -> pd.DataFrame:
    """Each policy's contacts and profit by period."""
    return _rows(mart, "fct_value_by_period", "select * from fct_value_by_period order by policy, period")


def scoring(mart: str) -> pd.DataFrame:
    """What is served, and what making it took: one row."""
    return _rows(mart, "fct_scoring", "select * from fct_scoring")


def score_audits(mart: str) -> pd.DataFrame:
    """Audits of the scores, the last attempt first and in it those that failed; `label` tells attempts apart.

    Without rows where a cycle serves older scores because none were made.
    """
    sql = """
        select
            *,
            audit
            || case when max(attempt) over () > 1 then format(' · attempt {:d}, {}', attempt, score_source) else '' end
                as label
        from fct_score_audits
        order by attempt desc, passed, headroom nulls last, audit
    """
    return _rows(mart, "fct_score_audits", sql, may_be_empty=True)


def entities(mart: str, containing: str = "", at_most: int = 1_000) -> pd.DataFrame:
    """Entities whose id contains the text, in the order of the ids; without rows where none does."""
    sql = "select * from dim_entity where contains(entity_id, ?) order by entity_id limit ?"
    return _rows(mart, "dim_entity", sql, [containing.strip(), at_most], may_be_empty=True)


def entity_scores(mart: str, entity_id: str) -> pd.DataFrame:
    """The entity's best candidates, best first."""
    sql = "select * from fct_entity_scores where entity_id = ? and is_top_for_entity order by rank_in_entity"
    return _rows(mart, "fct_entity_scores", sql, [entity_id])


def score_stages(mart: str) -> pd.DataFrame:
    """Stages of scoring in their order, the whole block last."""
    return _rows(mart, "fct_score_stages", "select * from fct_score_stages order by seq")


def score_blocks(mart: str, at_most: int = 200) -> pd.DataFrame:
    """Blocks of entities, the slowest first."""
    sql = "select * from fct_score_blocks order by wall_s desc, block limit ?"
    return _rows(mart, "fct_score_blocks", sql, [at_most])


def shadow(mart: str) -> pd.DataFrame:
    """The shadow against the serving model, all pairs first, then by decile; without rows where none scored."""
    return _rows(mart, "fct_shadow", "select * from fct_shadow order by shadow_model_id, seq", may_be_empty=True)


def staleness_cost(mart: str) -> pd.DataFrame:
    """Ages of the scores, fresh ones first; without rows until it was measured."""
    return _rows(mart, "fct_staleness_cost", "select * from fct_staleness_cost order by lag_periods", may_be_empty=True)
