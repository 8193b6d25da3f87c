with period_metrics as (

    select * from {{ ref('stg_fieldmart__period_metrics') }}

),

per_row as (

    select
        model_id,
        split,
        period,
        n,
        conversions,
        sum_p,
        sum_logloss,
        sum_squared_error,
        auc,
        conversions / nullif(n, 0) as base_rate,
        sum_logloss / nullif(n, 0) as logloss,
        sum_squared_error / nullif(n, 0) as brier,
        sum_p / nullif(conversions, 0) as calibration_ratio
    from period_metrics

),

final as (

    select
        *,
        logloss / ({{ entropy('base_rate') }}) as normalized_entropy
    from per_row

)

select * from final
