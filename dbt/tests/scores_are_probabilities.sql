-- 0 < p < 1, and NaN is neither.
select
    entity_id,
    candidate_id,
    p
from {{ ref('stg_fieldmart__scores') }}
where p is null or isnan(p) or p <= 0 or p >= 1
