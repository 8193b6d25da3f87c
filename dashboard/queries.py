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

from dashboard.promise_words import promise_value

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
        select rule, severity, mart, metric, operator, threshold, value, headroom, outcome, note, why
        from fct_decision_rules
        where is_of_release
        order by case outcome when 'fail' then 1 when 'missing' then 2 when 'waived' then 3 else 4 end, severity, seq
    """
    return _rows(mart, "fct_decision_rules", sql)


def decisions(mart: str) -> pd.DataFrame:
    """The decision log, newest first."""
    sql = """
        select
            cycle_date, verdict, approved_by, k, reason, next_action, periods_needed, days_needed, candidate_model_id,
            champion_model_id, decided_at, decided_by, decision_id
        from fct_decisions
        order by seq desc
    """
    return _rows(mart, "fct_decisions", sql)


def decision(mart: str) -> dict[str, Any] | None:
    """The decision that the release was built on; None if there is none."""
    rows = _rows(mart, "fct_decisions", "select * from fct_decisions where is_of_release", may_be_empty=True)
    return None if rows.empty else rows.to_dict("records")[0]


def approvals(mart: str) -> pd.DataFrame:
    """Approvals and waivers of all nights, newest first; may be empty."""
    sql = """
        select kind, rule, decision_id, given_by, why, cycle_date, until, is_in_force, promotes, given_at
        from fct_approvals
        order by seq desc
    """
    return _rows(mart, "fct_approvals", sql, may_be_empty=True)


def alias_history(mart: str) -> pd.DataFrame:
    """What champion, challenger and live named and when, the last change first."""
    sql = """
        select valid_from, valid_to, alias, model_id, shown_release_id, cause, note, cycle_date, decision_id
        from fct_alias_history
        order by valid_from desc, alias
    """
    return _rows(mart, "fct_alias_history", sql, may_be_empty=True)


def guard_went_back(mart: str) -> str | None:
    """When the guard last pointed readers back and why, as a sentence; None if it never did."""
    sql = """
        select 'The guard last went back on ' || strftime(max(valid_from), '%Y-%m-%d %H:%M') || ' UTC: '
            || max_by(note, valid_from) as sentence
        from fct_alias_history
        where cause = 'guard' and alias = 'live'
        having count(*) > 0
    """
    found = _rows(mart, "fct_alias_history", sql, may_be_empty=True)
    return None if found.empty else str(found["sentence"].iloc[0])


def incumbent_comparison(mart: str) -> pd.DataFrame:
    """What has to hold for a promotion, as intervals of logloss: the chosen model against what serves, and every k
    against the best one; `allowed_delta` is what the upper end may reach. May be empty."""
    sql = """
        select
            'k = ' || challenger_k || ' against the ' || incumbent_source as label, true as is_incumbent, delta_logloss,
            delta_lo, delta_hi, allowed_delta, is_earned as holds
        from fct_incumbent_comparison
        union all
        select * from (
            select
                'k = ' || k || ' against k = ' || best_k, false, delta_logloss, delta_lo_simultaneous,
                delta_hi_simultaneous, margin, is_non_inferior
            from fct_accuracy_cost_by_k
            where not is_baseline and k <> best_k
            order by k
        )
    """
    return _rows(mart, "fct_incumbent_comparison", sql, may_be_empty=True)


def cost_by_volume(mart: str) -> pd.DataFrame:
    """USD a month by model and volume of scores, of models that were priced."""
    sql = """
        select * from fct_cost_by_volume
        where usd_per_month is not null
        order by volume_factor, is_baseline, k, label
    """
    return _rows(mart, "fct_cost_by_volume", sql)


def cost_sensitivity(mart: str) -> pd.DataFrame:
    """The FFMs' cost of a million scores by rate, the smallest k first."""
    sql = "select * from fct_cost_sensitivity where not is_baseline order by k, usd_by_rate desc, rate"
    return _rows(mart, "fct_cost_sensitivity", sql, may_be_empty=True)


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


def reliability_curve(mart: str, model_id: str) -> pd.DataFrame:
    """The corners of the model's curve in the order of p."""
    sql = "select * from fct_reliability_curve where model_id = ? order by point"
    return _rows(mart, "fct_reliability_curve", sql, [model_id])


def calibration_error(mart: str) -> pd.DataFrame:
    """Errors and decomposition of every model, the chosen one first."""
    sql = """
        select
            errors.*,
            models.label
        from fct_calibration_error as errors
        inner join dim_model as models on errors.model_id = models.model_id
        order by errors.is_verdict desc, errors.logloss, errors.model_id
    """
    return _rows(mart, "fct_calibration_error", sql)


def calibrator_comparison(mart: str, model_id: str) -> pd.DataFrame:
    """The methods of calibrating the model, the chosen one first."""
    sql = "select * from fct_calibrator_comparison where model_id = ? order by is_chosen desc, test_logloss, method"
    return _rows(mart, "fct_calibrator_comparison", sql, [model_id])


def slice_shrinkage(mart: str, at_most: int = 12) -> pd.DataFrame:
    """The whole, and of every finer level the values whose correction moves most conversions and the unseen one."""
    sql = """
        select * from fct_slice_shrinkage
        where is_verdict and (moved_rank <= ? or is_unseen)
        order by depth, abs(moved_conversions) desc, value
    """
    return _rows(mart, "fct_slice_shrinkage", sql, [at_most], may_be_empty=True)


def shrinkage_gain(mart: str) -> pd.DataFrame:
    """What each correction is worth on later periods, level by level from coarse to fine."""
    sql = """
        select gains.*
        from fct_shrinkage_gain as gains
        left join (select distinct level, depth from fct_slice_shrinkage) as levels on gains.level = levels.level
        where gains.is_verdict
        order by levels.depth, gains.error, gains.correction
    """
    return _rows(mart, "fct_shrinkage_gain", sql, may_be_empty=True)


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


def label_delay(mart: str) -> pd.DataFrame:
    """The delay curves, that of all exposures first; days in order."""
    sql = "select * from fct_label_delay order by grp <> 'all', grp, delay_days"
    return _rows(mart, "fct_label_delay", sql)


def delayed_feedback(mart: str) -> pd.DataFrame:
    """Ways to train on labels that are not final, best first; without rows until they were measured."""
    sql = "select * from fct_delayed_feedback order by is_oracle, logloss, method"
    return _rows(mart, "fct_delayed_feedback", sql, may_be_empty=True)


def kpi_lift(mart: str) -> pd.DataFrame:
    """The model against each baseline that can be reached, by objective."""
    sql = """
        select * from fct_kpi_lift
        where policy = 'model' and not is_upper_bound
        order by objective, baseline
    """
    return _rows(mart, "fct_kpi_lift", sql)


def kpi_totals(mart: str) -> pd.DataFrame:
    """The model against each baseline and against the upper bound, by objective."""
    sql = "select * from fct_kpi_lift where policy = 'model' order by objective, is_upper_bound, baseline"
    return _rows(mart, "fct_kpi_lift", sql)


def value_curve(mart: str) -> pd.DataFrame:
    """Each policy at each budget, the model first."""
    sql = "select * from fct_value_curve order by policy <> 'model', policy, budget"
    return _rows(mart, "fct_value_curve", sql)


def sensitivity_baselines(mart: str) -> list[str]:
    """What the sensitivity to margin and contact cost is shown against: contacting nobody first."""
    sql = "select distinct baseline from fct_value_sensitivity order by baseline <> 'nobody', baseline"
    return _rows(mart, "fct_value_sensitivity", sql)["baseline"].tolist()


def value_sensitivity(mart: str, baseline: str) -> pd.DataFrame:
    """The model's profit beyond the baseline's for every margin and contact cost."""
    sql = "select * from fct_value_sensitivity where baseline = ? order by margin_rate, contact_cost"
    return _rows(mart, "fct_value_sensitivity", sql, [baseline])


def value_by_k(mart: str) -> pd.DataFrame:
    """Each k by objective, the best first."""
    sql = "select * from fct_value_by_k order by objective, rank_by_objective, k"
    return _rows(mart, "fct_value_by_k", sql)


def value_by_decile(mart: str) -> pd.DataFrame:
    """Tenths of each policy's ranking, the model first."""
    sql = "select * from fct_value_by_decile order by policy <> 'model', policy, decile"
    return _rows(mart, "fct_value_by_decile", sql)


def auction_utility(mart: str) -> pd.DataFrame:
    """Utility in simulated auctions; without rows where the contract has no cost column."""
    sql = "select * from fct_auction_utility order by kind desc, beta, policy"
    return _rows(mart, "fct_auction_utility", sql, may_be_empty=True)


def slice_discovery(mart: str, model_id: str) -> pd.DataFrame:
    """Pairs of slices found to be off, confirmed ones first; without rows where none was found."""
    sql = """
        select * from fct_slice_discovery
        where model_id = ?
        order by is_confirmed desc, abs(confirm_excess_conversions) desc, slice_a, slice_b
    """
    return _rows(mart, "fct_slice_discovery", sql, [model_id], may_be_empty=True)


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


def leakage(mart: str) -> pd.DataFrame:
    """Leakage checks, the one with the least headroom of each audit first."""
    return _rows(mart, "fct_leakage", "select * from fct_leakage order by audit, suspicion_rank")


def model_age(mart: str) -> pd.DataFrame:
    """Both versions of the chosen model on the test periods."""
    return _rows(mart, "fct_model_age", "select * from fct_model_age order by version, period")


def model_age_effect(mart: str) -> pd.DataFrame:
    """What age costs, the paired comparison first."""
    return _rows(mart, "fct_model_age_effect", "select * from fct_model_age_effect order by kind = 'paired' desc, kind")


def domain_shift(mart: str) -> pd.DataFrame:
    """The test rows against the training rows, all fields first, then the field that moved most; may be empty."""
    sql = """
        select * from fct_domain_shift
        where comparison = 'test'
        order by is_all_fields desc, excess desc, subject
    """
    return _rows(mart, "fct_domain_shift", sql, may_be_empty=True)


def fairness(mart: str) -> pd.DataFrame:
    """Groups of people; without rows if the contract declares none."""
    sql = "select * from fct_fairness order by attribute, group_value"
    return _rows(mart, "fct_fairness", sql, may_be_empty=True)


def fairness_proxy(mart: str) -> pd.DataFrame:
    """How well other fields guess the groups."""
    sql = "select * from fct_fairness_proxy order by attribute, group_value"
    return _rows(mart, "fct_fairness_proxy", sql, may_be_empty=True)


def field_pairs(mart: str, k: int | None = None) -> pd.DataFrame:
    """Terms of the logit of the model with `k` factors, without it of the chosen one; the largest share first."""
    sql = "select * from fct_field_pairs where k = ? or (? is null and is_verdict) order by share_rank"
    return _rows(mart, "fct_field_pairs", sql, [k, k])


def field_pairs_ks(mart: str) -> list[int]:
    """The k whose field pairs were measured, the chosen one first."""
    sql = "select k from fct_field_pairs group by k order by bool_or(is_verdict) desc, k"
    return _rows(mart, "fct_field_pairs", sql)["k"].tolist()


def slo(mart: str) -> pd.DataFrame:
    """The promises in their order."""
    return _rows(mart, "fct_slo", "select * from fct_slo order by seq")


def slo_in_words(mart: str) -> pd.DataFrame:
    """The same with values as a reader says them, as in "6.4 h before the deadline"."""
    found = slo(mart)
    for name in ("value_p50", "value_p95", "value_max", "last_value"):
        found[name] = [promise_value(*pair) for pair in zip(found[name], found["unit"], strict=True)]
    return found


def live_performance(mart: str) -> pd.DataFrame:
    """Earlier periods whose served scores met exposures, the oldest first; without rows on the first night."""
    return _rows(mart, "fct_live_performance", "select * from fct_live_performance order by period", may_be_empty=True)


def nights(mart: str) -> pd.DataFrame:
    """The nights up to this release, the oldest first."""
    return _rows(mart, "fct_nights", "select * from fct_nights order by cycle_date")


def stage_percentiles(mart: str) -> pd.DataFrame:
    """Stages of the nights and their parts, the longest in all first."""
    sql = "select * from fct_stage_percentiles where kind = 'night' order by total_s desc, stage"
    return _rows(mart, "fct_stage_percentiles", sql)


def run_stages(mart: str) -> pd.DataFrame:
    """The stages of the release's own night in their order."""
    return _rows(mart, "fct_run_stages", "select * from fct_run_stages order by seq")


def data_quality(mart: str) -> pd.DataFrame:
    """Rows of the inputs by what became of them, those put aside first."""
    sql = "select * from fct_data_quality order by is_kept, source, n_rows desc, outcome"
    return _rows(mart, "fct_data_quality", sql)


def operations(mart: str, at_most: int = 200) -> pd.DataFrame:
    """What was done to the warehouse, probes left out, the last first; without rows until something was."""
    sql = "select * from fct_operations where kind <> 'probe' order by seq desc limit ?"
    return _rows(mart, "fct_operations", sql, [at_most], may_be_empty=True)
