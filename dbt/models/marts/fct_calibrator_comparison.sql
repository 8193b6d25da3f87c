with calibrator_comparison as (

    select * from {{ ref('stg_fieldmart__calibrator_comparison') }}

),

models as (

    select * from {{ ref('dim_model') }}

),

comparison as (

    select * from {{ ref('stg_fieldmart__k_comparison') }}

),

final as (

    select
        calibrator_comparison.model_id,
        models.k,
        models.role,
        coalesce(comparison.is_verdict, false) as is_verdict,
        calibrator_comparison.method,
        calibrator_comparison.is_chosen,
        calibrator_comparison.tolerance,
        calibrator_comparison.calib_n,
        calibrator_comparison.calib_periods,
        calibrator_comparison.calib_logloss,
        calibrator_comparison.calib_delta,
        calibrator_comparison.calib_delta_lo,
        calibrator_comparison.calib_delta_hi,
        calibrator_comparison.test_n,
        calibrator_comparison.test_periods,
        calibrator_comparison.test_logloss,
        calibrator_comparison.test_brier,
        sign(calibrator_comparison.test_squared_error)
        * sqrt(abs(calibrator_comparison.test_squared_error)) as test_calibration_error,
        calibrator_comparison.test_delta,
        calibrator_comparison.test_delta_lo,
        calibrator_comparison.test_delta_hi,
        coalesce(calibrator_comparison.test_delta_hi < 0, false) as is_surely_better,
        coalesce(calibrator_comparison.test_delta_lo > 0, false) as is_surely_worse,
        calibrator_comparison.why
    from calibrator_comparison
    inner join models on calibrator_comparison.model_id = models.model_id
    left join comparison on calibrator_comparison.model_id = comparison.model_id

)

select * from final
