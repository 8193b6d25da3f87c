{{ config(tags=['evidence']) }}

-- The slices of one type divide the test rows: they add up to all of them, once.
with slices as (

    select
        model_id,
        slice_type,
        sum(n) as n,
        sum(conversions) as conversions,
        sum(sum_p) as sum_p
    from {{ ref('stg_fieldmart__slice_metrics') }}
    group by model_id, slice_type

),

models as (

    select * from {{ ref('stg_fieldmart__model_metrics') }}
    where split = 'test'

)

select
    slices.model_id,
    slices.slice_type,
    slices.n,
    models.n as model_n
from slices
left join models on slices.model_id = models.model_id
where
    models.model_id is null
    or slices.n <> models.n
    or slices.conversions <> models.conversions
    or abs(slices.sum_p - models.sum_p) > 1e-6 * (1 + abs(models.sum_p))
