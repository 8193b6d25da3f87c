with training_curve as (

    select * from {{ ref('stg_fieldmart__training_curve') }}

),

models as (

    select * from {{ ref('dim_model') }}

),

ends as (

    select
        training_curve.model_id,
        max(training_curve.epoch) as last_epoch,
        any_value(training_curve.train_logloss) filter (where training_curve.epoch = models.best_epoch) as best_train,
        any_value(training_curve.valid_logloss) filter (where training_curve.epoch = models.best_epoch) as best_valid
    from training_curve
    inner join models on training_curve.model_id = models.model_id
    group by training_curve.model_id

),

changes as (

    select
        training_curve.*,
        ends.last_epoch,
        training_curve.train_logloss / nullif(ends.best_train, 0) - 1 as train_above_best,
        training_curve.valid_logloss / nullif(ends.best_valid, 0) - 1 as valid_above_best
    from training_curve
    inner join ends on training_curve.model_id = ends.model_id

),

-- valid got worse while train got better: what a model learns then is noise
judged as (

    select
        *,
        coalesce(valid_above_best > 0 and train_above_best < 0, false) as is_overfit,
        coalesce(valid_above_best > {{ var('overfit_alarm') }} and train_above_best < 0, false) as is_far_overfit
    from changes

),

final as (

    select
        judged.model_id,
        models.algorithm,
        models.label,
        models.k,
        models.seed,
        models.is_shipping_seed,
        models.role,
        judged.epoch,
        judged.train_logloss,
        judged.valid_logloss,
        judged.train_above_best,
        judged.valid_above_best,
        judged.wall_s,
        models.best_epoch,
        judged.last_epoch,
        coalesce(judged.epoch = models.best_epoch, false) as is_best_epoch,
        judged.is_overfit and judged.epoch > models.best_epoch as is_overfit,
        bool_or(judged.is_far_overfit and judged.epoch = judged.last_epoch) over (partition by judged.model_id)
            as is_overfit_alarm
    from judged
    inner join models on judged.model_id = models.model_id

)

select * from final
