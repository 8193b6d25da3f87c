with training_curve as (

    select * from {{ ref('stg_fieldmart__training_curve') }}

),

models as (

    select * from {{ ref('dim_model') }}

),

final as (

    select
        training_curve.model_id,
        models.k,
        models.seed,
        models.role,
        training_curve.epoch,
        training_curve.train_logloss,
        training_curve.valid_logloss,
        training_curve.wall_s,
        coalesce(training_curve.epoch = models.best_epoch, false) as is_best_epoch
    from training_curve
    inner join models on training_curve.model_id = models.model_id

)

select * from final
