with source as (

    select * from {{ source('fieldmart', 'delayed_feedback') }}

),

renamed as (

    select
        cast(method as varchar) as method,
        cast(is_reference as boolean) as is_reference,
        cast(is_oracle as boolean) as is_oracle,
        cast(n as bigint) as n,
        cast(conversions as bigint) as conversions,
        cast(sum_p as double) as sum_p,
        cast(sum_logloss as double) as sum_logloss,
        cast(delta_logloss as double) as delta_logloss,
        cast(delta_logloss_lo as double) as delta_logloss_lo,
        cast(delta_logloss_hi as double) as delta_logloss_hi,
        cast(delta_relative as double) as delta_relative,
        cast(delta_relative_lo as double) as delta_relative_lo,
        cast(delta_relative_hi as double) as delta_relative_hi,
        cast(calibration_ratio_lo as double) as calibration_ratio_lo,
        cast(calibration_ratio_hi as double) as calibration_ratio_hi,
        cast(delta_calibration as double) as delta_calibration,
        cast(delta_calibration_lo as double) as delta_calibration_lo,
        cast(delta_calibration_hi as double) as delta_calibration_hi,
        cast(train_rows as double) as train_rows,
        cast(train_conversions as double) as train_conversions,
        cast(as_of_from as date) as as_of_from,
        cast(as_of_through as date) as as_of_through,
        cast(n_dates as integer) as n_dates,
        cast(n_seeds as integer) as n_seeds
    from source

)

select * from renamed
