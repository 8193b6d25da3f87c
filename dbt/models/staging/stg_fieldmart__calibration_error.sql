with source as (

    select * from {{ source('fieldmart', 'calibration_error') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(n as bigint) as n,
        cast(conversions as bigint) as conversions,
        cast(bins as integer) as bins,
        cast(ece_raw as double) as ece_raw,
        cast(ece_raw_if_perfect as double) as ece_raw_if_perfect,
        cast(squared_error as double) as squared_error,
        cast(squared_error_lo as double) as squared_error_lo,
        cast(squared_error_hi as double) as squared_error_hi,
        cast(miscalibration as double) as miscalibration,
        cast(discrimination as double) as discrimination,
        cast(uncertainty as double) as uncertainty,
        cast(logloss as double) as logloss,
        cast(n_periods as integer) as n_periods
    from source

)

select * from renamed
