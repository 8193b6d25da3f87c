with calibration_error as (

    select * from {{ ref('stg_fieldmart__calibration_error') }}

),

models as (

    select * from {{ ref('dim_model') }}

),

comparison as (

    select * from {{ ref('stg_fieldmart__k_comparison') }}

),

final as (

    select
        calibration_error.model_id,
        models.k,
        models.role,
        coalesce(comparison.is_verdict, false) as is_verdict,
        calibration_error.n,
        calibration_error.conversions,
        calibration_error.conversions / nullif(calibration_error.n, 0) as observed_rate,
        calibration_error.bins,
        calibration_error.ece_raw,
        calibration_error.ece_raw_if_perfect,
        calibration_error.squared_error,
        calibration_error.squared_error_lo,
        calibration_error.squared_error_hi,
        sign(calibration_error.squared_error)
        * sqrt(abs(calibration_error.squared_error)) as calibration_error,
        sign(calibration_error.squared_error_lo)
        * sqrt(abs(calibration_error.squared_error_lo)) as calibration_error_lo,
        sign(calibration_error.squared_error_hi)
        * sqrt(abs(calibration_error.squared_error_hi)) as calibration_error_hi,
        coalesce(calibration_error.squared_error_lo > 0, false) as is_miscalibrated,
        calibration_error.logloss,
        calibration_error.miscalibration,
        calibration_error.discrimination,
        calibration_error.uncertainty,
        calibration_error.miscalibration / nullif(calibration_error.logloss, 0) as miscalibration_share,
        calibration_error.n_periods
    from calibration_error
    inner join models on calibration_error.model_id = models.model_id
    left join comparison on calibration_error.model_id = comparison.model_id

)

select * from final
