with candidates as (

    select * from {{ ref('int_candidates_rated') }}

),

models as (

    select * from {{ ref('dim_model') }}

),

-- what the losses of all seeds of all k are compared with; nothing where no k was compared
best as (

    select
        any_value(logloss) as best_logloss,
        any_value(best_model_id) as best_model_id,
        any_value(n_seeds) as n_seeds
    from {{ ref('stg_fieldmart__k_comparison') }}
    where k = best_k

),

final as (

    select
        candidates.model_id,
        candidates.algorithm,
        candidates.label,
        candidates.k,
        candidates.seed,
        candidates.is_shipping_seed,
        candidates.n,
        candidates.conversions,
        candidates.logloss,
        candidates.logloss - candidates.logloss_seed_mean as logloss_minus_seed_mean,
        -- of one seed the best is a model, and no distance from itself: the last bits of two sums may differ
        case
            when best.n_seeds = 1 and candidates.model_id = best.best_model_id then 0
            when candidates.algorithm = 'ffm' then candidates.logloss - best.best_logloss
        end as logloss_minus_best,
        candidates.normalized_entropy,
        candidates.auc,
        candidates.calibration_ratio,
        models.best_epoch,
        models.train_cpu_s,
        models.train_wall_s,
        models.train_peak_rss_mib
    from candidates
    inner join models on candidates.model_id = models.model_id
    cross join best

)

select * from final
