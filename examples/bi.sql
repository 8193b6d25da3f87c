-- What a BI team asks of a release, one question a statement, each with a name for reports and tests.
--
-- As it is, the file runs on a release's mart.duckdb (`duckdb -readonly`), and after examples/bi_views.sql on the same
-- release's marts/*.parquet; Spark runs the same statements over the Parquet files. docs/bi.md says how a tool gets to
-- the current release.

-- name: release
-- Which release is this, how old are its data, and whose scores are in it?
select
    release_id,
    contract,
    cycle_date,
    data_through,
    data_age_days,
    verdict,
    champion_model_id,
    score_source
from dim_release;

-- name: k_and_cost
-- Which k, what does it cost, and what do the others lose or save?
select
    label,
    k,
    is_baseline,
    logloss,
    logloss_lo,
    logloss_hi,
    normalized_entropy,
    auc,
    delta_logloss,
    usd_per_1m_scores,
    usd_training,
    is_on_front,
    is_verdict
from fct_accuracy_cost_by_k
order by logloss, label;

-- name: worst_slices
-- In which slices is the chosen model off by more than chance, and by how much? Ratio 1 is right, above it expects too
-- much. Slices that are too small to tell stay out.
select
    slice_type,
    slice_value,
    n,
    conversions,
    calibration_ratio,
    calibration_ratio_lo,
    calibration_ratio_hi,
    p_adjusted,
    is_alarm
from fct_calibration_by_slice
where is_verdict and not is_below_min_n
order by worst_rank nulls last, slice_type, slice_value
limit 20;

-- name: contact_list
-- Whom to contact for each candidate, the best first. Of one candidate: and scores.candidate_id = '…'.
select
    releases.release_id,
    scores.candidate_id,
    scores.candidate_label,
    scores.rank_in_candidate,
    scores.entity_id,
    scores.p,
    scores.confidence_band,
    scores.score_source
from fct_entity_scores as scores
cross join dim_release as releases
where scores.rank_in_candidate <= 10
order by scores.candidate_id, scores.rank_in_candidate;

-- name: scores_of_an_entity
-- What is best for one entity? Here the first of all; put an id of your own in place of min(entity_id).
with chosen as (

    select min(entity_id) as entity_id
    from dim_entity
    where candidates_scored > 0

)

select
    scores.entity_id,
    scores.rank_in_entity,
    scores.candidate_id,
    scores.candidate_label,
    scores.p,
    scores.oov_share,
    scores.score_source,
    scores.staleness_hours
from fct_entity_scores as scores
inner join chosen on scores.entity_id = chosen.entity_id
where scores.rank_in_entity is not null
order by scores.rank_in_entity;

-- name: reach_by_candidate
-- How many entities can each candidate reach, and how likely are they on average?
select
    candidate_id,
    label,
    n_matches,
    entities_scored,
    mean_p,
    max_p,
    entities_scored * mean_p as expected_conversions
from dim_candidate
order by expected_conversions desc nulls last, candidate_id asc;

-- name: drift_by_field
-- What drifts, by field and period, the scores among them? What no drift at all would give is taken off.
select
    'field' as subject,
    field,
    period,
    psi_excess,
    status,
    is_latest_period
from fct_drift_by_field
union all
select
    'score' as subject,
    field,
    period,
    psi_excess,
    status,
    is_latest_period
from fct_score_drift
order by subject, field, period;

-- name: label_maturity
-- Of which periods are the labels final, and what is still to come of the others?
select
    period,
    split,
    exposures,
    conversions,
    is_mature,
    known_share,
    expected_conversions,
    observed_rate,
    expected_rate
from fct_label_maturity
order by period;

-- name: kpi_lift
-- What does targeting by the model bring beyond each baseline, with a 95 % interval? A backtest.
select
    policy,
    baseline,
    objective,
    unit,
    delta,
    delta_lo,
    delta_hi,
    lift,
    lift_lo,
    lift_hi,
    is_superior
from fct_kpi_lift
order by policy, baseline, objective;

-- name: profit_by_budget
-- How much profit does each budget of contacts bring, by each policy?
select
    policy,
    budget,
    is_target,
    contacted,
    conversions,
    captured_share,
    profit,
    profit_lo,
    profit_hi,
    over_random
from fct_value_curve
order by policy, budget;

-- name: decisions
-- What was decided, night by night, and what comes next?
select
    cycle_date,
    verdict,
    k,
    blocking_rules,
    next_action,
    periods_needed,
    is_approved,
    champion_model_id,
    reason
from fct_decisions
order by seq desc;

-- name: rules_of_the_decision
-- Which rules stand behind the decision of this release, and how far off was each?
select
    rule,
    severity,
    value,
    operator,
    threshold,
    headroom,
    outcome,
    why
from fct_decision_rules
where is_of_release
order by seq;

-- name: model_live_when
-- Which model was live when? The spans of each alias; the one that is open is now. At one moment T:
-- and valid_from <= T and (valid_to > T or valid_to is null).
select
    alias,
    model_id,
    shown_release_id,
    cause,
    valid_from,
    valid_to,
    is_current
from fct_alias_history
order by alias, seq;

-- name: live_performance
-- Did the scores that were served come true?
select
    period,
    model_id,
    score_source,
    n,
    coverage,
    expected_conversions,
    expected_lo,
    expected_hi,
    conversions,
    is_mature,
    calibration_ratio,
    is_inside
from fct_live_performance
order by period desc;

-- name: slo
-- Which promises were kept, and how much room for failures is left?
select
    title,
    objective,
    threshold,
    unit,
    window_days,
    observations,
    attained,
    error_budget_left,
    value_p95,
    is_met,
    is_alarm
from fct_slo
order by seq;

-- name: nights
-- Were the scores there in time, what did a night cost, and how did quality go?
select
    cycle_date,
    verdict,
    k,
    late_s,
    is_ready_in_time,
    wall_s,
    pairs,
    usd,
    usd_of_night_per_1m_pairs,
    logloss,
    score_source
from fct_nights
order by cycle_date desc;

-- name: stage_percentiles
-- Which stage takes the time? Percentiles over nights, not means.
select
    kind,
    stage,
    n,
    share_of_time,
    p50_s,
    p95_s,
    max_s
from fct_stage_percentiles
order by kind asc, total_s desc, stage asc;

-- name: data_quality
-- What came in, and what was kept out for which reason?
select
    source,
    outcome,
    is_kept,
    n_rows,
    share_of_source
from fct_data_quality
order by source asc, is_kept desc, n_rows desc, outcome asc;

-- name: score_service
-- What is served, from which source and why, how old are the data behind it, what did making it cost?
select
    release_id,
    score_source,
    is_degraded,
    reason,
    model_id,
    staleness_hours,
    entities,
    candidates,
    pairs,
    wall_s,
    usd_per_1m_scores
from fct_scoring;

-- name: findings
-- The sentence that each page of the dashboard opens with.
select
    page,
    sentence
from fct_findings
order by page;
