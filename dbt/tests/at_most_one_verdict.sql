{{ config(tags=['evidence']) }}

-- One k is chosen at most; if this night chose it, it is non-inferior, and no smaller k is.
with candidates as (

    select * from {{ ref('fct_accuracy_cost_by_k') }}
    where not is_baseline

)

select 'several verdicts' as fault
from candidates
having count_if(is_verdict) > 1
union all
select 'verdict is not the smallest non-inferior k' as fault
from candidates
having
    any_value(k) filter (where is_verdict and verdict_from is null)
    <> min(k) filter (where is_non_inferior)
