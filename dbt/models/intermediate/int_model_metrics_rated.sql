with model_metrics as (

    select * from {{ ref('stg_fieldmart__model_metrics') }}

),

per_row as (

    select
        *,
        conversions / nullif(n, 0) as base_rate,
        sum_logloss / nullif(n, 0) as logloss,
        sum_squared_error / nullif(n, 0) as brier,
        sum_p / nullif(conversions, 0) as calibration_ratio
    from model_metrics

),

rated as (

    select
        *,
        logloss / ({{ entropy('base_rate') }}) as normalized_entropy
    from per_row

)

select * from rated
