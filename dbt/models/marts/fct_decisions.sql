with decisions as (

    select * from {{ ref('stg_fieldmart__decisions') }}

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
        decisions.verdict,
        decisions.reason,
        decisions.k,
        decisions.candidate_model_id,
        decisions.champion_model_id,
        decisions.gate_sha,
        decisions.evidence_sha,
        decisions.entry_hash,
        release.decision_id is not null as is_of_release
    from decisions
    left join release on decisions.decision_id = release.decision_id

)

select * from final
