with decision_rules as (

    select * from {{ ref('stg_fieldmart__decision_rules') }}

),

decisions as (

    select * from {{ ref('fct_decisions') }}

),

distances as (

    select
        *,
        {{ relative_distance('value', 'threshold') }} as distance
    from decision_rules

),

final as (

    select
        distances.decision_id,
        decisions.cycle_date,
        decisions.is_of_release,
        distances.seq,
        distances.rule,
        distances.severity,
        distances.mart,
        distances.metric,
        distances.operator,
        distances.threshold,
        distances.value,
        case
            when distances.operator in ('<', '<=') then 0 - distances.distance
            when distances.operator in ('>', '>=') then distances.distance
            else 0 - abs(distances.distance)
        end as headroom,
        distances.outcome,
        distances.why,
        distances.note,
        distances.periods_needed,
        distances.days_needed
    from distances
    inner join decisions on distances.decision_id = decisions.decision_id

)

select * from final
