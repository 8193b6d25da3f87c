{{ config(tags=['evidence']) }}

-- The bins of p divide the test rows: they add up to all of them, once.
with bins as (

    select
        model_id,
        sum(n) as n,
        sum(conversions) as conversions,
        sum(sum_p) as sum_p
    from {{ ref('stg_fieldmart__calibration_bins') }}
    group by model_id

),

models as (

    select * from {{ ref('stg_fieldmart__model_metrics') }}
    where split = 'test'

)

select
    bins.model_id,
    bins.n,
    models.n as model_n
from bins
left join models on bins.model_id = models.model_id
where
    models.model_id is null
    or bins.n <> models.n
    or bins.conversions <> models.conversions
    or abs(bins.sum_p - models.sum_p) > 1e-6 * (1 + abs(models.sum_p))
