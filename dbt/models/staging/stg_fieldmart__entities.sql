with source as (

    select * from {{ source('fieldmart', 'entities') }}

),

renamed as (

    select
        {{ entity_key('entity_id') }} as entity_id,
        {{ match_key('match_id') }} as match_id,
        cast(candidates as bigint) as candidates
    from source

)

select * from renamed
