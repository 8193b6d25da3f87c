with period_metrics as (

    select * from {{ ref('stg_fieldmart__period_metrics') }}

),

models as (

    select * from {{ ref('dim_model') }}

),

per_row as (

    select
        period_metrics.*,
        models.algorithm,
        models.k,
        models.seed,
        period_metrics.conversions / nullif(period_metrics.n, 0) as base_rate,
        period_metrics.sum_logloss / nullif(period_metrics.n, 0) as logloss,
        period_metrics.sum_squared_error / nullif(period_metrics.n, 0) as brier,
        period_metrics.sum_p / nullif(period_metrics.conversions, 0) as calibration_ratio,
        period_metrics.sum_ndcg / nullif(period_metrics.ranked_groups, 0) as ndcg,
        period_metrics.sum_map / nullif(period_metrics.ranked_groups, 0) as mean_average_precision,
        period_metrics.captured / nullif(period_metrics.rankable, 0) as capture_rate
    from period_metrics
    inner join models on period_metrics.model_id = models.model_id

),

final as (

    select
        model_id,
        algorithm,
        k,
        seed,
        split,
        period,
        n,
        conversions,
        sum_p,
        sum_logloss,
        sum_squared_error,
        auc,
        pr_auc,
        base_rate,
        logloss,
        brier,
        calibration_ratio,
        logloss / ({{ entropy('base_rate') }}) as normalized_entropy,
        top_n,
        ranked_groups,
        ndcg,
        mean_average_precision,
        captured,
        rankable,
        capture_rate
    from per_row

)

select * from final
