with people as (

    select
        *,
        {{ is_folded('entities', 'attribute', 'group_value') }} as is_folded
    from {{ ref('stg_fieldmart__fairness') }}

),

folded as (

    select
        model_id,
        attribute,
        {{ folded_name('group_value') }} as shown_value,
        cast(sum(entities) as bigint) as entities,
        cast(sum(n) as bigint) as n,
        cast(sum(conversions) as bigint) as conversions,
        sum(sum_p order by group_value) as sum_p,
        any_value(calibration_ratio_lo) filter (where not is_folded) as calibration_ratio_lo,
        any_value(calibration_ratio_hi) filter (where not is_folded) as calibration_ratio_hi,
        any_value(calibration_ratio_lo_entity) filter (where not is_folded) as calibration_ratio_lo_entity,
        any_value(calibration_ratio_hi_entity) filter (where not is_folded) as calibration_ratio_hi_entity,
        any_value(auc) filter (where not is_folded) as auc,
        any_value(auc_lo) filter (where not is_folded) as auc_lo,
        any_value(auc_hi) filter (where not is_folded) as auc_hi,
        max(top_n) as top_n,
        cast(sum(contacted) as bigint) as contacted,
        cast(sum(captured) as bigint) as captured,
        max(min_n) as min_n
    from people
    group by model_id, attribute, shown_value

),

final as (

    select * rename (shown_value as group_value)
    from folded

)

select * from final
