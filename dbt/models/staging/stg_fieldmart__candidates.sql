with source as (

    select * from {{ source('fieldmart', 'candidates') }}

),

renamed as (

    select
        cast(candidate_id as varchar) as candidate_id,
        {{ match_key('match_id') }} as match_id,
        cast(label as varchar) as label
    from source

)

select * from renamed
