with source as (

    select * from {{ source('fieldmart', 'alias_changes') }}

),

renamed as (

    select
        cast(contract as varchar) as contract,
        cast(alias as varchar) as alias,
        cast(seq as bigint) as seq,
        cast(changed_at as timestamp) as changed_at,
        cast(cause as varchar) as cause,
        cast(entry_id as varchar) as entry_id,
        cast(note as varchar) as note,
        cast(model_id as varchar) as model_id,
        cast(release_id as varchar) as release_id,
        cast(decision_id as varchar) as decision_id,
        cast(cycle_date as date) as cycle_date
    from source

)

select * from renamed
