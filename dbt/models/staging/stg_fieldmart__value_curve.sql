with source as (

    select * from {{ source('fieldmart', 'value_curve') }}

),

renamed as (

    select
        cast(policy as varchar) as policy,
        cast(model_id as varchar) as model_id,
        cast(budget as bigint) as budget,
        cast(is_target as boolean) as is_target,
        cast(contacts_per_period as double) as contacts_per_period,
        cast(pairs as bigint) as pairs,
        cast(conversions_of_all as double) as conversions_of_all,
        cast(contacted as double) as contacted,
        cast(conversions as double) as conversions,
        cast(sales_value as double) as sales_value,
        cast(profit as double) as profit,
        cast(profit_lo as double) as profit_lo,
        cast(profit_hi as double) as profit_hi,
        cast(over_random as double) as over_random,
        cast(over_random_lo as double) as over_random_lo,
        cast(over_random_hi as double) as over_random_hi,
        cast(over_prior as double) as over_prior,
        cast(over_prior_lo as double) as over_prior_lo,
        cast(over_prior_hi as double) as over_prior_hi,
        cast(n_periods as integer) as n_periods,
        cast(assumption as varchar) as assumption
    from source

)

select * from renamed
