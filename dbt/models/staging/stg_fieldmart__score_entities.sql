with source as (

    select * from {{ source('fieldmart', 'score_entities') }}

),

renamed as (

    select
        {{ entity_key('entity_id') }} as entity_id,
        {{ match_key('match_id') }} as match_id,
        cast(candidates as bigint) as candidates,
        cast(sum_p as double) as sum_p,
        cast(min_p as double) as min_p,
        cast(max_p as double) as max_p,
        cast(best_candidate_id as varchar) as best_candidate_id,
        cast(sum_oov_share as double) as sum_oov_share
    from source

)

select * from renamed
