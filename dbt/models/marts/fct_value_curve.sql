with value_curve as (

    select * from {{ ref('stg_fieldmart__value_curve') }}

),

final as (

    select
        policy,
        model_id,
        budget,
        is_target,
        row_number() over (partition by policy order by profit desc, budget asc) = 1 as is_best_in_hindsight,
        contacts_per_period,
        pairs,
        contacted,
        conversions,
        conversions / nullif(conversions_of_all, 0) as captured_share,
        contacted / nullif(pairs, 0) as contacted_share,
        sales_value,
        profit,
        profit_lo,
        profit_hi,
        over_random,
        over_random_lo,
        over_random_hi,
        over_prior,
        over_prior_lo,
        over_prior_hi,
        n_periods,
        assumption
    from value_curve

)

select * from final
