{{ config(tags=['evidence']) }}

-- The periods of a policy add up to the totals that are compared.
with totals as (

    select
        policy,
        sum(conversions) as conversions,
        sum(sales_value) as sales_value,
        sum(profit) as profit
    from {{ ref('fct_value_by_period') }}
    group by policy

),

by_objective as (

    unpivot totals on conversions, sales_value, profit into name objective value period_total

)

select
    comparison.policy,
    comparison.baseline,
    comparison.objective
from {{ ref('fct_kpi_lift') }} as comparison
left join by_objective on comparison.policy = by_objective.policy and comparison.objective = by_objective.objective
where
    by_objective.policy is null
    or abs(comparison.total - by_objective.period_total) > 1e-6 * (1 + abs(comparison.total))
