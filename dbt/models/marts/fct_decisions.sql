with decisions as (

    select * from {{ ref('stg_fieldmart__decisions') }}

),

approvals as (

    select * from {{ ref('fct_approvals') }}
    where kind = 'approval'

),

-- What blocks a decision, and how many more periods would decide all of it (null: time alone would not).
blocking as (

    select
        decision_id,
        string_agg(rule, ', ' order by seq) as blocking_rules,
        case when bool_and(periods_needed is not null) then max(periods_needed) end as periods_needed,
        case when bool_and(days_needed is not null) then max(days_needed) end as days_needed
    from {{ ref('stg_fieldmart__decision_rules') }}
    where outcome in ('fail', 'missing')
    group by decision_id

),

release as (

    select * from {{ ref('stg_fieldmart__release') }}

),

final as (

    select
        decisions.decision_id,
        decisions.seq,
        decisions.cycle_date,
        decisions.decided_at,
        decisions.decided_by,
        decisions.verdict,
        decisions.reason,
        blocking.blocking_rules,
        blocking.periods_needed,
        blocking.days_needed,
        approvals.entry_id is not null as is_approved,
        approvals.given_by as approved_by,
        case when approvals.entry_id is not null then 'promote' else decisions.next_action end as next_action,
        decisions.k,
        decisions.candidate_model_id,
        decisions.champion_model_id,
        decisions.gate_sha,
        decisions.evidence_sha,
        decisions.entry_hash,
        release.decision_id is not null as is_of_release
    from decisions
    left join approvals on decisions.decision_id = approvals.decision_id
    left join blocking on decisions.decision_id = blocking.decision_id
    left join release on decisions.decision_id = release.decision_id

)

select * from final
