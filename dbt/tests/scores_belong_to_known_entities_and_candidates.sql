-- No score is of an entity or a candidate that is not on the lists.
select scored.entity_id as id
from {{ ref('stg_fieldmart__score_entities') }} as scored
left join {{ ref('dim_entity') }} as entities on scored.entity_id = entities.entity_id
where entities.entity_id is null
union all
select scored.candidate_id as id
from {{ ref('stg_fieldmart__score_candidates') }} as scored
left join {{ ref('dim_candidate') }} as candidates on scored.candidate_id = candidates.candidate_id
where candidates.candidate_id is null
