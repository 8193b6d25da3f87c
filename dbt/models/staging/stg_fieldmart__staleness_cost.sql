with source as (

    select * from {{ source('fieldmart', 'staleness_cost') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(lag_periods as integer) as lag_periods,
        cast(period_days as integer) as period_days,
        cast(is_reference as boolean) as is_reference,
        cast(n as bigint) as n,
        cast(conversions as bigint) as conversions,
        cast(sum_p as double) as sum_p,
        cast(sum_logloss as double) as sum_logloss,
        cast(delta_logloss as double) as delta_logloss,
        cast(delta_lo as double) as delta_lo,
        cast(delta_hi as double) as delta_hi,
        cast(delta_relative as double) as delta_relative,
        cast(delta_relative_lo as double) as delta_relative_lo,
        cast(delta_relative_hi as double) as delta_relative_hi,
        cast(calibration_ratio_lo as double) as calibration_ratio_lo,
        cast(calibration_ratio_hi as double) as calibration_ratio_hi,
        cast(budget_top_n as integer) as budget_top_n,
        cast(contacted as bigint) as contacted,
        cast(captured as bigint) as captured,
        cast(captured_delta as double) as captured_delta,
        cast(captured_delta_lo as double) as captured_delta_lo,
        cast(captured_delta_hi as double) as captured_delta_hi,
        cast(captured_relative as double) as captured_relative,
        cast(captured_relative_lo as double) as captured_relative_lo,
        cast(captured_relative_hi as double) as captured_relative_hi,
        cast(test_from as date) as test_from,
        cast(test_through as date) as test_through,
        cast(n_periods as integer) as n_periods
    from source

)

select * from renamed
