-- An entity's ranks run from 1 to the number of its candidates in the order of p, and so do a candidate's.
with ranks as (

    select
        'entity' as ranked_within,
        entity_id as id,
        rank_in_entity as place,
        p
    from {{ ref('stg_fieldmart__scores') }}
    union all
    select
        'candidate' as ranked_within,
        candidate_id as id,
        rank_in_candidate as place,
        p
    from {{ ref('stg_fieldmart__scores') }}

),

neighbours as (

    select
        *,
        lag(p) over (partition by ranked_within, id order by place) as p_before,
        count(*) over (partition by ranked_within, id) as n_ranked
    from ranks

)

select
    ranked_within,
    id
from neighbours
group by ranked_within, id
having min(place) <> 1 or max(place) > max(n_ranked) or count_if(p > p_before) > 0
