{{ config(tags=['evidence']) }}

-- A difference is the chosen model's logloss minus the baseline's, relative to that, and lies in its interval.
with baselines as (

    select * from {{ ref('fct_baselines') }}
    where not is_verdict

),

verdict as (

    select logloss
    from {{ ref('fct_baselines') }}
    where is_verdict

)

select baselines.algorithm
from baselines
left join verdict on true
where
    verdict.logloss is null
    or abs(baselines.delta_logloss - (verdict.logloss - baselines.logloss)) > 1e-9
    or abs(baselines.delta_relative - baselines.delta_logloss / baselines.logloss) > 1e-9
    or baselines.delta_logloss not between baselines.delta_lo and baselines.delta_hi
    or baselines.delta_relative not between baselines.delta_relative_lo and baselines.delta_relative_hi
