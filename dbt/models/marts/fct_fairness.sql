with groups as (

    select * from {{ ref('int_groups_folded') }}

),

rated as (

    select
        *,
        conversions / n as observed_rate,
        sum_p / nullif(conversions, 0) as calibration_ratio,
        least(calibration_ratio_lo, calibration_ratio_lo_entity) as ratio_lo,
        -- no upper end over periods is none at all, unless there is no interval over periods
        case
            when calibration_ratio_lo is null or calibration_ratio_hi is not null
                then greatest(calibration_ratio_hi, calibration_ratio_hi_entity)
        end as ratio_hi,
        contacted / n as selection_rate,
        sum(contacted) over (partition by attribute) / sum(n) over (partition by attribute) as selection_rate_of_all,
        n < min_n as is_below_min_n
    from groups

),

final as (

    select
        model_id,
        attribute,
        group_value,
        entities,
        n,
        conversions,
        observed_rate,
        calibration_ratio,
        ratio_lo as calibration_ratio_lo,
        ratio_hi as calibration_ratio_hi,
        auc,
        auc_lo,
        auc_hi,
        top_n,
        contacted,
        captured,
        selection_rate,
        selection_rate / nullif(selection_rate_of_all, 0) as selection_ratio,
        captured / nullif(contacted, 0) as conversions_per_contact,
        min_n,
        is_below_min_n,
        not is_below_min_n
        and coalesce(
            ratio_lo > {{ var('slice_ratio_high') }} or ratio_hi < {{ var('slice_ratio_low') }}, false
        ) as is_off_band
    from rated

)

select * from final
