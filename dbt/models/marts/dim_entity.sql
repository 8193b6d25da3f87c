with entities as (

    select * from {{ ref('stg_fieldmart__entities') }}

),

scores as (

    select * from {{ ref('stg_fieldmart__scores') }}

),

per_entity as (

    select
        entity_id,
        count(*) as scored,
        avg(p order by candidate_id) as mean_p,
        max(p) as max_p,
        arg_min(candidate_id, rank_in_entity) as best_candidate_id,
        avg(oov_share order by candidate_id) as mean_oov_share
    from scores
    group by entity_id

),

final as (

    select
        entities.entity_id,
        entities.match_id,
        entities.candidates as candidates_on_offer,
        coalesce(per_entity.scored, 0) as candidates_scored,
        per_entity.mean_p,
        per_entity.max_p,
        per_entity.best_candidate_id,
        per_entity.mean_oov_share
    from entities
    left join per_entity on entities.entity_id = per_entity.entity_id

)

select * from final
