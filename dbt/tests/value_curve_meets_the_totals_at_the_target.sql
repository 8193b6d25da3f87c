{{ config(tags=['evidence']) }}

-- Every policy has one budget of the target, and brings there what is compared.
with targets as (

    select
        policy,
        count(*) filter (where is_target) as n_targets,
        any_value(profit) filter (where is_target) as profit,
        any_value(conversions) filter (where is_target) as conversions
    from {{ ref('fct_value_curve') }}
    group by policy

),

totals as (

    select
        policy,
        sum(profit) as profit,
        sum(conversions) as conversions
    from {{ ref('fct_value_by_period') }}
    group by policy

)

select
    coalesce(totals.policy, targets.policy) as policy,
    targets.profit,
    totals.profit as profit_by_period
from totals
full outer join targets on totals.policy = targets.policy
where
    targets.policy is null
    or totals.policy is null
    or targets.n_targets <> 1
    or abs(targets.profit - totals.profit) > 1e-6 * (1 + abs(totals.profit))
    or abs(targets.conversions - totals.conversions) > 1e-6 * (1 + totals.conversions)
