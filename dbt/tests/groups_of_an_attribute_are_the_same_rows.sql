{{ config(tags=['evidence']) }}

-- Every test row is in one group of each attribute.
select
    count(distinct n) as n_sizes,
    count(distinct contacted) as n_contacted
from (
    select
        attribute,
        sum(n) as n,
        sum(contacted) as contacted
    from {{ ref('fct_fairness') }}
    group by attribute
)
having count(distinct n) > 1 or count(distinct contacted) > 1
