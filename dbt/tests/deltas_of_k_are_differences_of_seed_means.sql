{{ config(tags=['evidence']) }}

-- The delta of a k is the mean logloss of its seeds minus that of the best k's, over as many seeds as there are.
with comparison as (

    select * from {{ ref('stg_fieldmart__k_comparison') }}

),

candidates as (

    select * from {{ ref('int_candidates_rated') }}

)

select
    comparison.k,
    comparison.delta_logloss,
    mine.logloss_seed_mean - best.logloss_seed_mean as difference
from comparison
left join candidates as mine on comparison.model_id = mine.model_id
left join candidates as best on comparison.best_model_id = best.model_id
where
    mine.model_id is null
    or best.model_id is null
    or comparison.n_seeds <> mine.n_seeds
    or abs(comparison.logloss - mine.logloss_seed_mean) > 1e-9
    or abs(comparison.delta_logloss - (mine.logloss_seed_mean - best.logloss_seed_mean)) > 1e-9
