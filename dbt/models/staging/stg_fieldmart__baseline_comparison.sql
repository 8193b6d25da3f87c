with source as (

    select * from {{ source('fieldmart', 'baseline_comparison') }}

),

renamed as (

    select
        cast(algorithm as varchar) as algorithm,
        cast(model_id as varchar) as model_id,
        cast(k as integer) as k,
        cast(logloss as double) as logloss,
        cast(delta_logloss as double) as delta_logloss,
        cast(delta_lo as double) as delta_lo,
        cast(delta_hi as double) as delta_hi,
        cast(delta_relative as double) as delta_relative,
        cast(delta_relative_lo as double) as delta_relative_lo,
        cast(delta_relative_hi as double) as delta_relative_hi,
        cast(n_periods as integer) as n_periods
    from source

)

select * from renamed
