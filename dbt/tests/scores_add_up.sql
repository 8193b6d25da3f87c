-- The scores themselves and what is summed up of entities, of candidates and of blocks are the same scores, counted
-- four ways; so are sums of p.
with scores as (

    select
        count(*) as pairs,
        sum(p) as sum_p
    from {{ ref('stg_fieldmart__scores') }}

),

entities as (

    select
        sum(candidates) as pairs,
        sum(sum_p) as sum_p
    from {{ ref('stg_fieldmart__score_entities') }}

),

candidates as (

    select
        sum(entities) as pairs,
        sum(sum_p) as sum_p
    from {{ ref('stg_fieldmart__score_candidates') }}

),

blocks as (

    select sum(pairs) as pairs
    from {{ ref('fct_score_blocks') }}

)

select
    scoring.pairs,
    scores.pairs as of_scores,
    entities.pairs as of_entities,
    candidates.pairs as of_candidates,
    blocks.pairs as of_blocks
from {{ ref('fct_scoring') }} as scoring
cross join scores
cross join entities
cross join candidates
cross join blocks
where
    scoring.pairs is distinct from scores.pairs
    or scoring.pairs is distinct from entities.pairs
    or scoring.pairs is distinct from candidates.pairs
    or scoring.pairs is distinct from blocks.pairs
    or abs(entities.sum_p - candidates.sum_p) > 1e-6 * (1 + abs(entities.sum_p))
    or abs(entities.sum_p - scores.sum_p) > 1e-6 * (1 + abs(entities.sum_p))
