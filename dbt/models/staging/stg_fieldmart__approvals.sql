with source as (

    select * from {{ source('fieldmart', 'approvals') }}

),

renamed as (

    select
        cast(entry_id as varchar) as entry_id,
        cast(seq as bigint) as seq,
        cast(kind as varchar) as kind,
        cast(cycle_date as date) as cycle_date,
        cast(given_at as timestamp) as given_at,
        cast(given_by as varchar) as given_by,
        cast(why as varchar) as why,
        cast(decision_id as varchar) as decision_id,
        cast(promotes as varchar) as promotes,
        cast(rule as varchar) as rule,
        cast(until as date) as until,
        cast(gate_sha as varchar) as gate_sha,
        cast(entry_hash as varchar) as entry_hash
    from source

)

select * from renamed
