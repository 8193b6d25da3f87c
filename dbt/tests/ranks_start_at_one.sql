-- Ranks within an entity, and within a candidate, run from 1 on without a gap in the order of the raw score, as far as
-- the longest list goes or there are scores.
with ranks as (

    select
        'entity' as ranked_within,
        entity_id as id,
        rank_in_entity as place,
        raw_score
    from {{ ref('stg_fieldmart__top_scores') }}
    where rank_in_entity is not null
    union all
    select
        'candidate' as ranked_within,
        candidate_id as id,
        rank_in_candidate as place,
        raw_score
    from {{ ref('stg_fieldmart__top_scores') }}
    where rank_in_candidate is not null

),

neighbours as (

    select
        *,
        row_number() over in_order as expected_place,
        lag(raw_score) over in_order as raw_score_before
    from ranks
    window in_order as (partition by ranked_within, id order by place)

),

lists as (

    select
        ranked_within,
        id,
        count(*) as n_ranked,
        count_if(place <> expected_place) as n_misplaced,
        count_if(raw_score > raw_score_before) as n_out_of_order
    from neighbours
    group by ranked_within, id

),

scored as (

    select
        'entity' as ranked_within,
        entity_id as id,
        candidates as n_scored
    from {{ ref('stg_fieldmart__score_entities') }}
    union all
    select
        'candidate' as ranked_within,
        candidate_id as id,
        entities as n_scored
    from {{ ref('stg_fieldmart__score_candidates') }}

),

longest_lists as (

    select
        ranked_within,
        max(place) as longest
    from ranks
    group by ranked_within

)

select
    scored.ranked_within,
    scored.id
from scored
inner join longest_lists on scored.ranked_within = longest_lists.ranked_within
left join lists on scored.ranked_within = lists.ranked_within and scored.id = lists.id
where
    coalesce(lists.n_ranked, 0) <> least(scored.n_scored, longest_lists.longest)
    or lists.n_misplaced > 0
    or lists.n_out_of_order > 0
