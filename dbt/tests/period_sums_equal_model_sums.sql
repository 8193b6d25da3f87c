{{ config(tags=['evidence']) }}

-- The periods of a split add up to the split, in rows, conversions, expected conversions, logloss and squared error.
with periods as (

    select
        model_id,
        split,
        sum(n) as n,
        sum(conversions) as conversions,
        sum(sum_p) as sum_p,
        sum(sum_logloss) as sum_logloss,
        sum(sum_squared_error) as sum_squared_error
    from {{ ref('stg_fieldmart__period_metrics') }}
    group by model_id, split

),

models as (

    select * from {{ ref('stg_fieldmart__model_metrics') }}

)

select
    models.model_id,
    models.split
from models
left join periods on models.model_id = periods.model_id and models.split = periods.split
where
    periods.model_id is null
    or models.n <> periods.n
    or models.conversions <> periods.conversions
    or abs(models.sum_p - periods.sum_p) > 1e-6 * (1 + abs(models.sum_p))
    or abs(models.sum_logloss - periods.sum_logloss) > 1e-6 * (1 + models.sum_logloss)
    or abs(models.sum_squared_error - periods.sum_squared_error) > 1e-6 * (1 + models.sum_squared_error)
