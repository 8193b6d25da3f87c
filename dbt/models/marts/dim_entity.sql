with entities as (

    select * from {{ ref('stg_fieldmart__entities') }}

),

scored as (

    select * from {{ ref('stg_fieldmart__score_entities') }}

),

final as (

    select
        entities.entity_id,
        entities.match_id,
        entities.candidates as candidates_on_offer,
        coalesce(scored.candidates, 0) as candidates_scored,
        scored.sum_p / nullif(scored.candidates, 0) as mean_p,
        scored.max_p,
        scored.best_candidate_id,
        scored.sum_oov_share / nullif(scored.candidates, 0) as mean_oov_share
    from entities
    left join scored on entities.entity_id = scored.entity_id

)

select * from final
{{ ordered_by_hash(['entity_id']) }}
