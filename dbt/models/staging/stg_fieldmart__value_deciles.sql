with source as (

    select * from {{ source('fieldmart', 'value_deciles') }}

),

renamed as (

    select
        cast(policy as varchar) as policy,
        cast(model_id as varchar) as model_id,
        cast(decile as integer) as decile,
        cast(n as bigint) as n,
        cast(conversions as bigint) as conversions,
        cast(sum_p as double) as sum_p,
        cast(sales_value as double) as sales_value,
        cast(observed_rate_lo as double) as observed_rate_lo,
        cast(observed_rate_hi as double) as observed_rate_hi,
        cast(assumption as varchar) as assumption
    from source

)

select * from renamed
