with source as (

    select * from {{ source('fieldmart', 'value_periods') }}

),

renamed as (

    select
        cast(policy as varchar) as policy,
        cast(model_id as varchar) as model_id,
        cast(period as date) as period,
        cast(pairs as bigint) as pairs,
        cast(contacted as bigint) as contacted,
        cast(conversions as double) as conversions,
        cast(sales_value as double) as sales_value,
        cast(margin_value as double) as margin_value,
        cast(contact_cost as double) as contact_cost,
        cast(wrong_contact_cost as double) as wrong_contact_cost,
        cast(profit as double) as profit,
        cast(assumption as varchar) as assumption
    from source

)

select * from renamed
