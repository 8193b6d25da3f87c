with scoring as (

    select * from {{ ref('stg_fieldmart__scoring') }}

),

release as (

    select * from {{ ref('dim_release') }}

),

rates as (

    select * from {{ ref('stg_fieldmart__rates') }}

),

memory as (

    select
        count(*) filter (where is_resumed) as blocks_resumed,
        count(distinct worker) as workers,
        max(model_loads) as model_loads_per_worker,
        sum(peak_rss_mib * wall_s order by block) as mib_seconds
    from {{ ref('stg_fieldmart__score_blocks') }}

),

priced as (

    select
        scoring.*,
        release.release_id,
        memory.blocks_resumed,
        memory.workers,
        memory.model_loads_per_worker,
        {{ hours_between('scoring.data_through', 'release.data_through') }} as staleness_hours,
        {{ hours_between('scoring.data_through', 'scoring.scored_at') }} as data_age_when_scored_hours,
        scoring.cpu_s / 3600 * rates.usd_per_cpu_hour as usd_cpu,
        {{ usd_of_memory('memory.mib_seconds', 1, 'rates.usd_per_gib_hour') }} as usd_memory
    from scoring
    cross join release
    cross join rates
    cross join memory

),

final as (

    select
        release_id,
        source as score_source,
        source = 'stale' as is_stale,
        is_degraded,
        reason,
        model_id,
        calibrator_id,
        requested_model_id,
        shadow_model_id,
        score_date,
        scored_at,
        data_through,
        staleness_hours,
        data_age_when_scored_hours,
        engine,
        entities,
        candidates,
        pairs,
        blocks,
        blocks_resumed,
        workers,
        model_loads_per_worker,
        wall_s,
        cpu_s,
        peak_rss_mib,
        pairs / nullif(wall_s, 0) as pairs_per_s,
        skew,
        coalesce(skew > {{ var('skew_alarm') }}, false) as is_skewed,
        usd_cpu / nullif(pairs, 0) * 1e6 as usd_cpu_per_1m,
        usd_memory / nullif(pairs, 0) * 1e6 as usd_memory_per_1m,
        (usd_cpu + usd_memory) / nullif(pairs, 0) * 1e6 as usd_per_1m_scores,
        scores_sha256
    from priced

)

select * from final
