with source as (

    select * from {{ source('fieldmart', 'model_metrics') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(split as varchar) as split,
        cast(n as bigint) as n,
        cast(conversions as bigint) as conversions,
        cast(sum_p as double) as sum_p,
        cast(sum_logloss as double) as sum_logloss,
        cast(sum_squared_error as double) as sum_squared_error,
        cast(auc as double) as auc,
        cast(pr_auc as double) as pr_auc,
        cast(logloss_lo as double) as logloss_lo,
        cast(logloss_hi as double) as logloss_hi,
        cast(calibration_ratio_lo as double) as calibration_ratio_lo,
        cast(calibration_ratio_hi as double) as calibration_ratio_hi,
        cast(n_periods as integer) as n_periods
    from source

)

select * from renamed
