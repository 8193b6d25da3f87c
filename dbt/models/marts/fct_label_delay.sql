with label_delay as (

    select * from {{ ref('stg_fieldmart__label_delay') }}

),

-- Every exposure is in one group, and the row `all` counts them all.
sized as (

    select
        grp,
        max(at_risk) as exposures
    from label_delay
    where grp <> 'all'
    group by grp

),

judged as (

    select
        grp,
        {{ is_folded('exposures', 'true', 'grp') }} as is_folded
    from sized

),

every_group as (

    select bool_and(is_folded) as are_folded from judged

),

marked as (

    select
        label_delay.*,
        coalesce(judged.is_folded, false) as is_folded,
        -- If all groups are folded, together they are `all`.
        label_delay.grp = 'all' or not coalesce(every_group.are_folded, false) as is_shown
    from label_delay
    left join judged on label_delay.grp = judged.grp
    cross join every_group

),

counted as (

    select
        {{ folded_name('grp') }} as shown_grp,
        delay_days,
        cast(sum(at_risk) as bigint) as at_risk,
        cast(sum(events) as bigint) as events,
        bool_or(is_folded) as is_fold,
        any_value(converted) as converted,
        any_value(converted_lo) as converted_lo,
        any_value(converted_hi) as converted_hi,
        any_value(completeness) as completeness,
        any_value(completeness_lo) as completeness_lo,
        any_value(completeness_hi) as completeness_hi
    from marked
    where is_shown
    group by shown_grp, delay_days

),

-- Kaplan and Meier once more for what is folded, of which there is no band.
survived as (

    select
        *,
        product(case when at_risk > 0 then 1 - events / at_risk else 1 end) over (
            partition by shown_grp order by delay_days
        ) as share_left
    from counted

),

shares as (

    select
        shown_grp as grp,
        delay_days,
        at_risk,
        events,
        if(is_fold, 1 - share_left, converted) as converted,
        if(is_fold, null, converted_lo) as converted_lo,
        if(is_fold, null, converted_hi) as converted_hi,
        case
            when not is_fold then completeness
            when last_value(at_risk) over to_the_end > 0
                then (1 - share_left) / nullif(1 - last_value(share_left) over to_the_end, 0)
        end as completeness,
        if(is_fold, null, completeness_lo) as completeness_lo,
        if(is_fold, null, completeness_hi) as completeness_hi
    from survived
    window
        to_the_end as (
            partition by shown_grp order by delay_days rows between unbounded preceding and unbounded following
        )

),

final as (

    select
        grp,
        delay_days,
        max(delay_days) over (partition by grp) as horizon_days,
        at_risk,
        events,
        converted,
        converted_lo,
        converted_hi,
        completeness,
        completeness_lo,
        completeness_hi,
        min(delay_days) filter (where completeness >= 0.5) over (partition by grp) as latency_p50_days,
        min(delay_days) filter (where completeness >= 0.9) over (partition by grp) as latency_p90_days
    from shares

)

select * from final
