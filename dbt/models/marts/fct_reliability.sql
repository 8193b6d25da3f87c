with calibration_bins as (

    select * from {{ ref('stg_fieldmart__calibration_bins') }}

),

models as (

    select * from {{ ref('dim_model') }}

),

comparison as (

    select * from {{ ref('stg_fieldmart__k_comparison') }}

),

final as (

    select
        calibration_bins.model_id,
        models.k,
        models.role,
        coalesce(comparison.is_verdict, false) as is_verdict,
        calibration_bins.bin,
        calibration_bins.p_lo,
        calibration_bins.p_hi,
        calibration_bins.n,
        calibration_bins.conversions,
        calibration_bins.sum_p,
        calibration_bins.sum_p / nullif(calibration_bins.n, 0) as mean_p,
        calibration_bins.conversions / nullif(calibration_bins.n, 0) as observed_rate,
        {{ wilson('calibration_bins.conversions', 'calibration_bins.n', '-') }} as observed_rate_lo,
        {{ wilson('calibration_bins.conversions', 'calibration_bins.n', '+') }} as observed_rate_hi
    from calibration_bins
    inner join models on calibration_bins.model_id = models.model_id
    left join comparison on calibration_bins.model_id = comparison.model_id

)

select * from final
