with candidates as (

    select * from {{ ref('stg_fieldmart__candidates') }}

),

scored as (

    select * from {{ ref('stg_fieldmart__score_candidates') }}

),

per_candidate as (

    select
        candidate_id,
        min(label) as label,
        count(distinct match_id) as n_matches
    from candidates
    group by candidate_id

),

final as (

    select
        per_candidate.candidate_id,
        per_candidate.label,
        per_candidate.n_matches,
        coalesce(scored.entities, 0) as entities_scored,
        scored.sum_p / nullif(scored.entities, 0) as mean_p,
        scored.max_p
    from per_candidate
    left join scored on per_candidate.candidate_id = scored.candidate_id

)

select * from final
