with source as (

    select * from {{ source('fieldmart', 'decisions') }}

),

renamed as (

    select
        cast(decision_id as varchar) as decision_id,
        cast(seq as bigint) as seq,
        cast(cycle_date as date) as cycle_date,
        cast(decided_at as timestamp) as decided_at,
        cast(decided_by as varchar) as decided_by,
        cast(verdict as varchar) as verdict,
        cast(reason as varchar) as reason,
        cast(next_action as varchar) as next_action,
        cast(k as integer) as k,
        cast(candidate_model_id as varchar) as candidate_model_id,
        cast(champion_model_id as varchar) as champion_model_id,
        cast(gate_sha as varchar) as gate_sha,
        cast(evidence_sha as varchar) as evidence_sha,
        cast(entry_hash as varchar) as entry_hash
    from source

)

select * from renamed
