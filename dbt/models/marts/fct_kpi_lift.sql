with comparison as (

    select * from {{ ref('stg_fieldmart__value_comparison') }}

),

objectives as (

    select * from {{ ref('objectives') }}

),

final as (

    select
        comparison.policy,
        comparison.baseline,
        comparison.objective,
        objectives.unit,
        comparison.baseline = 'perfect' as is_upper_bound,
        comparison.total,
        comparison.total_p5,
        comparison.total_p50,
        comparison.total_p95,
        comparison.baseline_total,
        comparison.delta,
        comparison.delta_lo,
        comparison.delta_hi,
        comparison.delta_p5,
        comparison.delta_p50,
        comparison.delta_p95,
        case when comparison.baseline_total > 0 then comparison.delta / comparison.baseline_total end as lift,
        case when comparison.baseline_total > 0 then comparison.delta_lo / comparison.baseline_total end as lift_lo,
        case when comparison.baseline_total > 0 then comparison.delta_hi / comparison.baseline_total end as lift_hi,
        coalesce(comparison.delta_lo > 0, false) as is_superior,
        comparison.n_periods,
        comparison.n_clusters,
        comparison.replicates,
        comparison.assumption
    from comparison
    left join objectives on comparison.objective = objectives.objective

)

select * from final
