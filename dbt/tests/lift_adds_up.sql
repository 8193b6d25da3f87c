{{ config(tags=['evidence']) }}

-- A delta is the difference of its totals and lies in its interval.
select
    policy,
    baseline,
    objective
from {{ ref('fct_kpi_lift') }}
where
    abs(delta - (total - baseline_total)) > 1e-6 * (1 + abs(total) + abs(baseline_total))
    or delta < delta_lo
    or delta > delta_hi
