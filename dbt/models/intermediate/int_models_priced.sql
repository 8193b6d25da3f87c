with models as (

    select * from {{ ref('stg_fieldmart__models') }}

),

scoring_cost as (

    select * from {{ ref('int_scoring_cost_summarized') }}

),

rates as (

    select * from {{ ref('stg_fieldmart__rates') }}

),

parts as (

    select
        models.model_id,
        models.cpu_s / 3600 * rates.usd_per_cpu_hour
        + {{ usd_of_memory('models.peak_rss_mib', 'models.wall_s', 'rates.usd_per_gib_hour') }} as usd_training,
        scoring_cost.score_cpu_s_per_1m / 3600 * rates.usd_per_cpu_hour as usd_cpu_per_1m,
        {{ usd_of_memory(
            'scoring_cost.score_peak_rss_mib', 'scoring_cost.score_wall_s_per_1m', 'rates.usd_per_gib_hour'
        ) }} as usd_memory_per_1m,
        models.artifact_bytes / 1024.0 ^ 3 * rates.usd_per_gib_month
        * 1e6 / {{ var('scores_per_month') }} as usd_storage_per_1m
    from models
    cross join rates
    left join scoring_cost on models.model_id = scoring_cost.model_id

),

priced as (

    select
        *,
        usd_cpu_per_1m + usd_memory_per_1m + usd_storage_per_1m as usd_per_1m_scores
    from parts

)

select * from priced
