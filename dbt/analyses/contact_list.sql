-- The entities to contact first for each candidate, with the release they come from.
select
    releases.release_id,
    scores.candidate_id,
    scores.candidate_label,
    scores.rank_in_candidate,
    scores.entity_id,
    scores.p,
    scores.score_source
from {{ ref('fct_entity_scores') }} as scores
cross join {{ ref('dim_release') }} as releases
where scores.is_top_for_candidate
order by scores.candidate_id, scores.rank_in_candidate
