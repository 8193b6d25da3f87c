with source as (

    select * from {{ source('fieldmart', 'period_metrics') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(split as varchar) as split,
        cast(period as date) as period,
        cast(n as bigint) as n,
        cast(conversions as bigint) as conversions,
        cast(sum_p as double) as sum_p,
        cast(sum_logloss as double) as sum_logloss,
        cast(sum_squared_error as double) as sum_squared_error,
        cast(auc as double) as auc
    from source

)

select * from renamed
