with candidates as (

    select * from {{ ref('int_candidates_rated') }}
    where is_shipping_seed

),

models as (

    select * from {{ ref('dim_model') }}

),

comparison as (

    select * from {{ ref('stg_fieldmart__k_comparison') }}

),

scoring_cost as (

    select * from {{ ref('int_scoring_cost_summarized') }}

),

ranking as (

    select
        model_id,
        max(top_n) as top_n,
        sum(sum_ndcg) / nullif(sum(ranked_groups), 0) as ndcg,
        sum(sum_map) / nullif(sum(ranked_groups), 0) as mean_average_precision,
        sum(captured) / nullif(sum(rankable), 0) as capture_rate
    from {{ ref('stg_fieldmart__period_metrics') }}
    where split = 'test'
    group by model_id

),

prices as (

    select * from {{ ref('int_models_priced') }}

),

joined as (

    select
        candidates.model_id,
        candidates.algorithm,
        candidates.label,
        candidates.k,
        candidates.seed,
        candidates.n,
        candidates.conversions,
        candidates.n_periods,
        candidates.base_rate,
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
        ranking.top_n,
        ranking.ndcg,
        ranking.mean_average_precision,
        ranking.capture_rate,
        candidates.n_seeds,
        candidates.logloss_seed_mean,
        candidates.logloss_seed_sd,
        candidates.normalized_entropy_seed_mean,
        candidates.algorithm <> 'ffm' as is_baseline,
        comparison.best_model_id,
        comparison.best_k,
        comparison.delta_logloss,
        comparison.se_seed,
        comparison.se_period,
        comparison.delta_lo,
        comparison.delta_hi,
        comparison.delta_lo_simultaneous,
        comparison.delta_hi_simultaneous,
        comparison.delta_lo_entity,
        comparison.delta_hi_entity,
        comparison.margin,
        comparison.infeasible_reason,
        comparison.infeasible_reason is not null as is_infeasible,
        coalesce(comparison.is_non_inferior, false) as is_non_inferior,
        coalesce(comparison.is_verdict, false) as is_verdict,
        coalesce(comparison.is_provisional, true) as is_provisional,
        comparison.verdict_from,
        models.n_parameters,
        models.artifact_mib,
        models.train_rows,
        models.epochs,
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
    from candidates
    inner join models on candidates.model_id = models.model_id
    inner join prices on candidates.model_id = prices.model_id
    left join comparison on candidates.model_id = comparison.model_id
    left join ranking on candidates.model_id = ranking.model_id
    left join scoring_cost on candidates.model_id = scoring_cost.model_id

),

-- another candidate that keeps the limits is at least as good and as cheap, and better in one of the two
dominated as (

    select distinct worse.model_id
    from joined as worse
    inner join joined as better
        on
            worse.normalized_entropy_seed_mean >= better.normalized_entropy_seed_mean
            and worse.usd_per_1m_scores >= better.usd_per_1m_scores
            and (
                worse.normalized_entropy_seed_mean > better.normalized_entropy_seed_mean
                or worse.usd_per_1m_scores > better.usd_per_1m_scores
            )
            and not better.is_infeasible

),

final as (

    select
        joined.*,
        dominated.model_id is not null as is_dominated,
        dominated.model_id is null and not joined.is_infeasible and joined.usd_per_1m_scores is not null as is_on_front
    from joined
    left join dominated on joined.model_id = dominated.model_id

)

select * from final
