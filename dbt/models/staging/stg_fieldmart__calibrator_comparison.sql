with source as (

    select * from {{ source('fieldmart', 'calibrator_comparison') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(method as varchar) as method,
        cast(is_chosen as boolean) as is_chosen,
        cast(tolerance as double) as tolerance,
        cast(calib_n as bigint) as calib_n,
        cast(calib_periods as integer) as calib_periods,
        cast(calib_logloss as double) as calib_logloss,
        cast(calib_delta as double) as calib_delta,
        cast(calib_delta_lo as double) as calib_delta_lo,
        cast(calib_delta_hi as double) as calib_delta_hi,
        cast(test_n as bigint) as test_n,
        cast(test_periods as integer) as test_periods,
        cast(test_logloss as double) as test_logloss,
        cast(test_brier as double) as test_brier,
        cast(test_squared_error as double) as test_squared_error,
        cast(test_delta as double) as test_delta,
        cast(test_delta_lo as double) as test_delta_lo,
        cast(test_delta_hi as double) as test_delta_hi,
        cast(why as varchar) as why
    from source

)

select * from renamed
