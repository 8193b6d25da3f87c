{{ config(tags=['evidence']) }}

-- Logloss is miscalibration - discrimination + uncertainty, and that of the model's test rows; the points of a curve
-- divide these rows.
with errors as (

    select * from {{ ref('fct_calibration_error') }}

),

models as (

    select * from {{ ref('stg_fieldmart__model_metrics') }}
    where split = 'test'

),

points as (

    select
        model_id,
        sum(n) as n
    from {{ ref('fct_reliability_curve') }}
    group by model_id

)

select errors.model_id
from errors
left join models on errors.model_id = models.model_id
left join points on errors.model_id = points.model_id
where
    models.model_id is null
    or points.model_id is null
    or errors.n <> models.n
    or errors.n <> points.n
    or abs(errors.logloss - models.sum_logloss / models.n) > 1e-6
    or abs(errors.miscalibration - errors.discrimination + errors.uncertainty - errors.logloss) > 1e-9
