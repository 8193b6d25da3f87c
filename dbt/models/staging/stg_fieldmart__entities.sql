with source as (

    select * from {{ source('fieldmart', 'entities') }}

),

renamed as (

    select
        cast(entity_id as varchar) as entity_id,
        cast(match_id as varchar) as match_id,
        cast(candidates as bigint) as candidates
    from source

)

select * from renamed
