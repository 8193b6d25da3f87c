with source as (

    select * from {{ source('fieldmart', 'model_age_effect') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(kind as varchar) as kind,
        cast(age_periods as integer) as age_periods,
        cast(period_days as integer) as period_days,
        cast(change as double) as change,
        cast(change_lo as double) as change_lo,
        cast(change_hi as double) as change_hi,
        cast(n_periods as integer) as n_periods
    from source

)

select * from renamed
