with label_delay as (

    select * from {{ ref('stg_fieldmart__label_delay') }}

),

-- A group with fewer exposures than the floor counts in `all` and is not shown.
shown as (

    select * from label_delay
    qualify coalesce(max(at_risk) over (partition by grp), 0) >= {{ var('k_anonymity') }}

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
    from shown

)

select * from final
