with source as (

    select * from {{ source('fieldmart', 'top_scores') }}

),

renamed as (

    select
        {{ entity_key('entity_id') }} as entity_id,
        cast(candidate_id as varchar) as candidate_id,
        {{ match_key('match_id') }} as match_id,
        cast(p as double) as p,
        cast(raw_score as double) as raw_score,
        cast(rank_in_entity as integer) as rank_in_entity,
        cast(oov_share as double) as oov_share,
        cast(model_id as varchar) as model_id,
        cast(calibrator_id as varchar) as calibrator_id,
        cast(score_date as date) as score_date,
        cast(scored_at as timestamp) as scored_at,
        cast(data_through as timestamp) as data_through,
        cast(source as varchar) as source,
        cast(rank_in_candidate as integer) as rank_in_candidate
    from source

)

select * from renamed
