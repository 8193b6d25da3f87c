with models as (

    select * from {{ ref('dim_model') }}
    where role = 'candidate'

),

test_metrics as (

    select * from {{ ref('int_model_metrics_rated') }}
    where split = 'test'

),

rated as (

    select
        models.model_id,
        models.algorithm,
        models.label,
        models.k,
        models.seed,
        models.is_shipping_seed,
        models.hyperparameters,
        test_metrics.n,
        test_metrics.conversions,
        test_metrics.n_periods,
        test_metrics.base_rate,
        test_metrics.logloss,
        test_metrics.logloss_lo,
        test_metrics.logloss_hi,
        test_metrics.normalized_entropy,
        test_metrics.normalized_entropy / nullif(test_metrics.logloss, 0) * test_metrics.logloss_lo
            as normalized_entropy_lo,
        test_metrics.normalized_entropy / nullif(test_metrics.logloss, 0) * test_metrics.logloss_hi
            as normalized_entropy_hi,
        1 - test_metrics.normalized_entropy as rig,
        test_metrics.auc,
        test_metrics.pr_auc,
        test_metrics.calibration_ratio,
        test_metrics.calibration_ratio_lo,
        test_metrics.calibration_ratio_hi
    from models
    inner join test_metrics on models.model_id = test_metrics.model_id

),

-- the same model but for its seed
seeds as (

    select
        algorithm,
        k,
        hyperparameters,
        cast(count(*) as integer) as n_seeds,
        avg(logloss order by seed, model_id) as logloss_seed_mean,
        stddev_samp(logloss order by seed, model_id) as logloss_seed_sd,
        avg(normalized_entropy order by seed, model_id) as normalized_entropy_seed_mean
    from rated
    group by algorithm, k, hyperparameters

),

final as (

    select
        rated.*,
        seeds.n_seeds,
        seeds.logloss_seed_mean,
        seeds.logloss_seed_sd,
        seeds.normalized_entropy_seed_mean
    from rated
    inner join seeds
        on
            rated.algorithm = seeds.algorithm
            and rated.k = seeds.k
            and rated.hyperparameters is not distinct from seeds.hyperparameters

)

select * from final
