{{ config(tags=['evidence']) }}

-- Where staleness was measured, lag 0 is what the others are compared with, and all lags scored and contacted the same
-- number of rows.
select
    count_if(is_reference) as n_references,
    count(distinct n) as n_sizes,
    count(distinct conversions) as n_conversions,
    count(distinct contacted) as n_contacted
from {{ ref('fct_staleness_cost') }}
having
    count(*) > 0
    and (
        count_if(is_reference and lag_periods = 0) <> 1
        or count_if(is_reference) <> 1
        or count(distinct n) <> 1
        or count(distinct conversions) <> 1
        or count(distinct contacted) <> 1
    )
