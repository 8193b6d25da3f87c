with source as (

    select * from {{ source('fieldmart', 'model_age') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(version as varchar) as version,
        cast(period as date) as period,
        cast(train_through as date) as train_through,
        cast(age_periods as integer) as age_periods,
        cast(period_days as integer) as period_days,
        cast(n as bigint) as n,
        cast(conversions as bigint) as conversions,
        cast(sum_p as double) as sum_p,
        cast(sum_logloss as double) as sum_logloss
    from source

)

select * from renamed
