-- No score is of an entity or a candidate that is not on the lists.
select
    scores.entity_id,
    scores.candidate_id
from {{ ref('stg_fieldmart__scores') }} as scores
left join {{ ref('dim_entity') }} as entities on scores.entity_id = entities.entity_id
left join {{ ref('dim_candidate') }} as candidates on scores.candidate_id = candidates.candidate_id
where entities.entity_id is null or candidates.candidate_id is null
