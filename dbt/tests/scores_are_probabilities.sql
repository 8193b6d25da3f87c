-- 0 < p < 1 for every score, by the lowest and highest of each entity, and NaN is neither.
select
    entity_id,
    min_p,
    max_p
from {{ ref('stg_fieldmart__score_entities') }}
where
    candidates > 0
    and (
        min_p is null or max_p is null or sum_p is null
        or isnan(min_p) or isnan(max_p) or isnan(sum_p)
        or min_p <= 0 or max_p >= 1
    )
