with model_age as (

    select * from {{ ref('stg_fieldmart__model_age') }}

),

rated as (

    select
        *,
        age_periods * period_days as age_days,
        sum_logloss / n as logloss,
        conversions / n as observed_rate,
        max(sum_logloss) filter (where version = 'newer') over (partition by period) as sum_logloss_newer
    from model_age

),

final as (

    select
        model_id,
        version,
        period,
        train_through,
        age_periods,
        age_days,
        n,
        conversions,
        logloss,
        logloss / nullif({{ entropy('observed_rate') }}, 0) as normalized_entropy,
        sum_p / nullif(conversions, 0) as calibration_ratio,
        sum_logloss / nullif(sum_logloss_newer, 0) - 1 as delta_relative
    from rated

)

select * from final
