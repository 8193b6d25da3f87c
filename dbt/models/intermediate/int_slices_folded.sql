with slices as (

    select
        *,
        {{ is_folded('entities', 'model_id, slice_type', 'slice_value', overlap=true) }} as is_folded
    from {{ ref('stg_fieldmart__slice_metrics') }}

),

-- Intervals and tests of what is folded cannot be had from those of its parts.
folded as (

    select
        model_id,
        slice_type,
        {{ folded_name('slice_value') }} as shown_value,
        cast(sum(n) as bigint) as n,
        cast(sum(conversions) as bigint) as conversions,
        sum(sum_p order by slice_value) as sum_p,
        sum(sum_logloss order by slice_value) as sum_logloss,
        any_value(calibration_ratio_lo) filter (where not is_folded) as calibration_ratio_lo,
        any_value(calibration_ratio_hi) filter (where not is_folded) as calibration_ratio_hi,
        max(n_periods) as n_periods,
        any_value(p_value) filter (where not is_folded) as p_value,
        any_value(p_adjusted) filter (where not is_folded) as p_adjusted,
        max(min_n) as min_n
    from slices
    group by model_id, slice_type, shown_value

),

final as (

    select * rename (shown_value as slice_value)
    from folded

)

select * from final
