-- Every entity was scored against every candidate it has.
select
    entity_id,
    candidates_on_offer,
    candidates_scored
from {{ ref('dim_entity') }}
where candidates_scored <> candidates_on_offer
