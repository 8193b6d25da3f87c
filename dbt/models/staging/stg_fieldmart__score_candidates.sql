with source as (

    select * from {{ source('fieldmart', 'score_candidates') }}

),

renamed as (

    select
        cast(candidate_id as varchar) as candidate_id,
        cast(entities as bigint) as entities,
        cast(sum_p as double) as sum_p,
        cast(max_p as double) as max_p
    from source

)

select * from renamed
