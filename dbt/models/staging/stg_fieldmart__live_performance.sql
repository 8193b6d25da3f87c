with source as (

    select * from {{ source('fieldmart', 'live_performance') }}

),

renamed as (

    select
        cast(contract as varchar) as contract,
        cast(period as date) as period,
        cast(release_id as varchar) as release_id,
        cast(model_id as varchar) as model_id,
        cast(score_source as varchar) as score_source,
        cast(score_date as date) as score_date,
        cast(exposures as bigint) as exposures,
        cast(n as bigint) as n,
        cast(entities as bigint) as entities,
        cast(sum_p as double) as sum_p,
        cast(var_conversions as double) as var_conversions,
        cast(sum_entropy as double) as sum_entropy,
        cast(var_logloss as double) as var_logloss,
        cast(is_mature as boolean) as is_mature,
        cast(conversions as bigint) as conversions,
        cast(sum_logloss as double) as sum_logloss,
        cast(entity_sq_conversions as double) as entity_sq_conversions,
        cast(entity_sq_logloss as double) as entity_sq_logloss
    from source

)

select * from renamed
