with comparison as (

    select * from {{ ref('stg_fieldmart__baseline_comparison') }}

),

verdict as (

    select model_id
    from {{ ref('stg_fieldmart__k_comparison') }}
    where is_verdict

),

candidates as (

    select * from {{ ref('int_candidates_rated') }}

),

models as (

    select * from {{ ref('dim_model') }}

),

scoring_cost as (

    select * from {{ ref('int_scoring_cost_summarized') }}

),

prices as (

    select * from {{ ref('int_models_priced') }}

),

shown as (

    select model_id from verdict
    union
    select model_id from comparison

),

final as (

    select
        candidates.algorithm,
        candidates.label,
        candidates.model_id,
        candidates.k,
        verdict.model_id is not null as is_verdict,
        candidates.n_periods,
        candidates.logloss,
        candidates.logloss_lo,
        candidates.logloss_hi,
        candidates.normalized_entropy,
        candidates.normalized_entropy_lo,
        candidates.normalized_entropy_hi,
        candidates.rig,
        candidates.auc,
        candidates.pr_auc,
        candidates.calibration_ratio,
        candidates.calibration_ratio_lo,
        candidates.calibration_ratio_hi,
        comparison.delta_logloss,
        comparison.delta_lo,
        comparison.delta_hi,
        comparison.delta_relative,
        comparison.delta_relative_lo,
        comparison.delta_relative_hi,
        coalesce(comparison.delta_hi < 0, false) as is_beaten,
        cast(
            case
                when verdict.model_id is null
                    then row_number() over (
                        partition by verdict.model_id is null order by candidates.logloss, candidates.algorithm
                    )
            end as integer
        ) as rank_among_baselines,
        models.n_parameters,
        models.artifact_mib,
        models.train_cpu_s,
        models.train_wall_s,
        models.train_peak_rss_mib,
        scoring_cost.score_rows_per_s,
        prices.usd_training,
        prices.usd_per_1m_scores
    from shown
    inner join candidates on shown.model_id = candidates.model_id
    inner join models on shown.model_id = models.model_id
    inner join prices on shown.model_id = prices.model_id
    left join verdict on shown.model_id = verdict.model_id
    left join comparison on shown.model_id = comparison.model_id
    left join scoring_cost on shown.model_id = scoring_cost.model_id

)

select * from final
