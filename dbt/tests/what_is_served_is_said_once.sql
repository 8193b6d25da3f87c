-- The release, the scoring and each score name one source, and degraded is what is stale or replaces a champion. Only a
-- pair that the model knows too little of may have the prior's score among the model's.
select
    releases.score_source as of_release,
    scoring.score_source as of_scoring
from {{ ref('fct_scoring') }} as scoring
cross join {{ ref('dim_release') }} as releases
where
    releases.score_source <> scoring.score_source
    or scoring.is_degraded <> (
        scoring.is_stale or (scoring.score_source = 'prior' and scoring.requested_model_id is not null)
    )
    or (scoring.score_source <> 'model' and scoring.reason = '')
union all
select
    scores.score_source as of_release,
    scoring.score_source as of_scoring
from {{ ref('fct_entity_scores') }} as scores
inner join {{ ref('fct_scoring') }} as scoring
    on
        (scores.score_source <> scoring.score_source and not (
            scores.score_source = 'prior' and scoring.score_source = 'model'
        ))
        or scores.model_id <> scoring.model_id
        or scores.score_date <> scoring.score_date
