with slice_metrics as (

    select * from {{ ref('int_slices_folded') }}

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
        slice_metrics.sum_p - slice_metrics.conversions as excess_conversions,
        slice_metrics.n
        / sum(slice_metrics.n) over (partition by slice_metrics.model_id, slice_metrics.slice_type) as share_of_rows,
        slice_metrics.n < slice_metrics.min_n as is_below_min_n
    from slice_metrics
    inner join models on slice_metrics.model_id = models.model_id
    left join comparison on slice_metrics.model_id = comparison.model_id

),

-- a p-value alone is no alarm: with enough rows any difference is significant
judged as (

    select
        *,
        case
            when calibration_ratio > 1
                then (calibration_ratio - 1) / nullif(calibration_ratio - calibration_ratio_lo, 0)
            when calibration_ratio_hi is null and calibration_ratio_lo is not null then 0
            else (1 - calibration_ratio) / nullif(calibration_ratio_hi - calibration_ratio, 0)
        end as evidence,
        logloss / nullif({{ entropy('observed_rate') }}, 0) as normalized_entropy,
        coalesce(
            not is_below_min_n and p_adjusted <= {{ var('slice_false_discovery_rate') }}, false
        ) as is_miscalibrated,
        coalesce(
            calibration_ratio < {{ var('slice_ratio_low') }} or calibration_ratio > {{ var('slice_ratio_high') }},
            sum_p > 0
        ) as is_material
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
        normalized_entropy,
        excess_conversions,
        share_of_rows,
        min_n,
        is_below_min_n,
        p_value,
        p_adjusted,
        is_miscalibrated,
        is_material,
        is_miscalibrated and is_material as is_alarm,
        evidence,
        cast(
            row_number() over (
                partition by model_id
                order by
                    is_below_min_n asc, p_adjusted asc nulls last, p_value asc nulls last,
                    abs(excess_conversions) desc, slice_type asc, slice_value asc
            ) as integer
        ) as worst_rank
    from judged

)

select * from final
