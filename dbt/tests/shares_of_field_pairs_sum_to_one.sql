{{ config(tags=['evidence']) }}

-- The terms of a model explain all of the variance of its logits, unless they are all equal.
select
    model_id,
    sum(share) as total
from {{ ref('fct_field_pairs') }}
group by model_id
having abs(sum(share) - 1) > 1e-6 and sum(variance) > 0
