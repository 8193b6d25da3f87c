with comparison as (

    select * from {{ ref('stg_fieldmart__value_comparison') }}

),

final as (

    select
        policy,
        baseline,
        objective,
        case when objective = 'conversions' then 'conversions' else 'USD' end as unit,
        baseline = 'perfect' as is_upper_bound,
        total,
        total_p5,
        total_p50,
        total_p95,
        baseline_total,
        delta,
        delta_lo,
        delta_hi,
        delta_p5,
        delta_p50,
        delta_p95,
        case when baseline_total > 0 then delta / baseline_total end as lift,
        case when baseline_total > 0 then delta_lo / baseline_total end as lift_lo,
        case when baseline_total > 0 then delta_hi / baseline_total end as lift_hi,
        coalesce(delta_lo > 0, false) as is_superior,
        n_periods,
        n_clusters,
        replicates,
        assumption
    from comparison

)

select * from final
