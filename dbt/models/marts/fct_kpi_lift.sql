with comparison as (

    select * from {{ ref('stg_fieldmart__value_comparison') }}

),

final as (

    select
        policy,
        baseline,
        objective,
        case when objective = 'conversions' then 'conversions' else 'USD' end as unit,
        total,
        baseline_total,
        delta,
        delta_lo,
        delta_hi,
        case when baseline_total > 0 then delta / baseline_total end as lift,
        case when baseline_total > 0 then delta_lo / baseline_total end as lift_lo,
        case when baseline_total > 0 then delta_hi / baseline_total end as lift_hi,
        coalesce(delta_lo > 0, false) as is_superior,
        n_periods,
        assumption
    from comparison

)

select * from final
