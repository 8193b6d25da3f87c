with models as (

    select * from {{ ref('dim_model') }}
    where role = 'candidate'

),

test_metrics as (

    select * from {{ ref('int_model_metrics_rated') }}
    where split = 'test'

),

comparison as (

    select * from {{ ref('stg_fieldmart__k_comparison') }}

),

scoring_cost as (

    select * from {{ ref('int_scoring_cost_summarized') }}

),

prices as (

    select * from {{ ref('int_models_priced') }}

),

joined as (

    select
        models.model_id,
        models.algorithm,
        models.k,
        models.seed,
        models.algorithm = 'prior' as is_baseline,
        test_metrics.n,
        test_metrics.conversions,
        test_metrics.n_periods,
        test_metrics.base_rate,
        test_metrics.logloss,
        test_metrics.logloss_lo,
        test_metrics.logloss_hi,
        test_metrics.normalized_entropy,
        test_metrics.normalized_entropy / nullif(test_metrics.logloss, 0) * test_metrics.logloss_lo
            as normalized_entropy_lo,
        test_metrics.normalized_entropy / nullif(test_metrics.logloss, 0) * test_metrics.logloss_hi
            as normalized_entropy_hi,
        test_metrics.auc,
        test_metrics.calibration_ratio,
        test_metrics.calibration_ratio_lo,
        test_metrics.calibration_ratio_hi,
        comparison.best_model_id,
        comparison.best_k,
        comparison.delta_logloss,
        comparison.delta_lo,
        comparison.delta_hi,
        comparison.delta_lo_simultaneous,
        comparison.delta_hi_simultaneous,
        comparison.margin,
        coalesce(comparison.is_non_inferior, false) as is_non_inferior,
        coalesce(comparison.is_verdict, false) as is_verdict,
        coalesce(comparison.is_provisional, true) as is_provisional,
        comparison.n_seeds,
        models.n_parameters,
        models.artifact_mib,
        models.train_rows,
        models.best_epoch,
        models.train_cpu_s,
        models.train_wall_s,
        models.train_jit_s,
        models.train_peak_rss_mib,
        models.train_rows_per_s,
        scoring_cost.score_repeats,
        scoring_cost.score_rows_per_s,
        scoring_cost.score_rows_per_s_cv,
        scoring_cost.score_cpu_s_per_1m,
        scoring_cost.score_peak_rss_mib,
        prices.usd_training,
        prices.usd_cpu_per_1m,
        prices.usd_memory_per_1m,
        prices.usd_storage_per_1m,
        prices.usd_per_1m_scores
    from models
    inner join test_metrics on models.model_id = test_metrics.model_id
    inner join prices on models.model_id = prices.model_id
    left join comparison on models.model_id = comparison.model_id
    left join scoring_cost on models.model_id = scoring_cost.model_id

),

-- another candidate is at least as good and at least as cheap, and better in one of the two
dominated as (

    select distinct worse.model_id
    from joined as worse
    inner join joined as better
        on
            worse.normalized_entropy >= better.normalized_entropy
            and worse.usd_per_1m_scores >= better.usd_per_1m_scores
            and (
                worse.normalized_entropy > better.normalized_entropy
                or worse.usd_per_1m_scores > better.usd_per_1m_scores
            )

),

final as (

    select
        joined.*,
        dominated.model_id is not null as is_dominated
    from joined
    left join dominated on joined.model_id = dominated.model_id

)

select * from final
