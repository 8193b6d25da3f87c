with slice_metrics as (

    select * from {{ ref('stg_fieldmart__slice_metrics') }}

),

models as (

    select * from {{ ref('dim_model') }}

),

comparison as (

    select * from {{ ref('stg_fieldmart__k_comparison') }}

),

per_row as (

    select
        slice_metrics.*,
        models.k,
        models.role,
        coalesce(comparison.is_verdict, false) as is_verdict,
        slice_metrics.conversions / nullif(slice_metrics.n, 0) as observed_rate,
        slice_metrics.sum_p / nullif(slice_metrics.n, 0) as mean_p,
        slice_metrics.sum_logloss / nullif(slice_metrics.n, 0) as logloss,
        slice_metrics.sum_p / nullif(slice_metrics.conversions, 0) as calibration_ratio,
        slice_metrics.n < slice_metrics.min_n as is_below_min_n
    from slice_metrics
    inner join models on slice_metrics.model_id = models.model_id
    left join comparison on slice_metrics.model_id = comparison.model_id

),

-- how many half widths of its own interval the ratio lies away from 1: beyond one, 1 is outside of the interval
judged as (

    select
        *,
        abs(calibration_ratio - 1)
        / nullif((calibration_ratio_hi - calibration_ratio_lo) / 2, 0) as evidence,
        coalesce(
            not is_below_min_n and (calibration_ratio_lo > 1 or calibration_ratio_hi < 1), false
        ) as is_miscalibrated
    from per_row

),

final as (

    select
        model_id,
        k,
        role,
        is_verdict,
        slice_type,
        slice_value,
        n,
        conversions,
        sum_p,
        observed_rate,
        mean_p,
        calibration_ratio,
        calibration_ratio_lo,
        calibration_ratio_hi,
        logloss,
        min_n,
        is_below_min_n,
        is_miscalibrated,
        evidence,
        cast(
            row_number() over (
                partition by model_id
                order by is_below_min_n asc, evidence desc nulls last, slice_type asc, slice_value asc
            ) as integer
        ) as worst_rank
    from judged

)

select * from final
