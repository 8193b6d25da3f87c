with effects as (

    select * from {{ ref('stg_fieldmart__model_age_effect') }}

),

final as (

    select
        model_id,
        kind,
        age_periods,
        age_periods * period_days as age_days,
        change,
        change_lo,
        change_hi,
        change / age_periods as change_per_period,
        coalesce(change_lo > 0, false) as is_worse,
        n_periods
    from effects

)

select * from final
