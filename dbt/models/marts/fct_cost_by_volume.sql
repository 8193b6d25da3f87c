with candidates as (

    select * from {{ ref('fct_accuracy_cost_by_k') }}

),

prices as (

    select * from {{ ref('int_models_priced') }}

),

-- a candidate and what repeats it: its rehearsal every night, its refit after a GO
trainings as (

    select
        models.candidate_id,
        sum(prices.usd_training) as usd_training
    from {{ ref('dim_model') }} as models
    inner join prices on models.model_id = prices.model_id
    group by models.candidate_id

),

volumes as (

    select unnest([1, 10, 100]) as volume_factor

),

per_month as (

    select
        candidates.model_id,
        candidates.label,
        candidates.k,
        candidates.is_baseline,
        candidates.is_verdict,
        volumes.volume_factor,
        volumes.volume_factor * cast({{ var('scores_per_month') }} as double) as scores_per_month,
        volumes.volume_factor * cast({{ var('scores_per_month') }} as double) / 1e6
        * (prices.usd_cpu_per_1m + prices.usd_memory_per_1m) as usd_scoring,
        prices.usd_storage_per_1m * {{ var('scores_per_month') }} / 1e6 as usd_storage,
        trainings.usd_training * {{ var('trainings_per_month') }} as usd_training
    from candidates
    inner join prices on candidates.model_id = prices.model_id
    inner join trainings on candidates.model_id = trainings.candidate_id
    cross join volumes

),

final as (

    select
        *,
        usd_scoring + usd_storage + usd_training as usd_per_month,
        (usd_scoring + usd_storage) / (scores_per_month / 1e6) as usd_marginal_per_1m,
        usd_training / (scores_per_month / 1e6) as usd_training_per_1m
    from per_month

)

select * from final
