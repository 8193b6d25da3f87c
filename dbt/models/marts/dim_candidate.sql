with candidates as (

    select * from {{ ref('stg_fieldmart__candidates') }}

),

scores as (

    select * from {{ ref('stg_fieldmart__scores') }}

),

per_candidate as (

    select
        candidate_id,
        min(label) as label,
        count(distinct match_id) as n_matches
    from candidates
    group by candidate_id

),

scored as (

    select
        candidate_id,
        count(*) as entities_scored,
        avg(p order by entity_id) as mean_p,
        max(p) as max_p
    from scores
    group by candidate_id

),

final as (

    select
        per_candidate.candidate_id,
        per_candidate.label,
        per_candidate.n_matches,
        coalesce(scored.entities_scored, 0) as entities_scored,
        scored.mean_p,
        scored.max_p
    from per_candidate
    left join scored on per_candidate.candidate_id = scored.candidate_id

)

select * from final
