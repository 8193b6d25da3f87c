with nights as (

    select * from {{ ref('stg_fieldmart__nights') }}

),

rates as (

    select * from {{ ref('stg_fieldmart__rates') }}

),

priced as (

    select
        nights.*,
        nights.cpu_s / 3600 * rates.usd_per_cpu_hour
        + nights.peak_rss_mib / 1024 * nights.wall_s / 3600 * rates.usd_per_gib_hour as usd
    from nights
    cross join rates

),

final as (

    select
        contract,
        cycle_date,
        is_own,
        is_replay,
        started_at,
        due_at,
        published_at,
        release_id as night_release_id,
        cast(date_diff('second', due_at, published_at) as double) as late_s,
        published_at <= due_at as is_ready_in_time,
        wall_s,
        cpu_s as train_and_score_cpu_s,
        peak_rss_mib,
        verdict,
        k,
        champion_model_id,
        score_source,
        is_degraded,
        logloss,
        logloss / nullif(lag(logloss) over (partition by contract order by cycle_date), 0) - 1 as logloss_change,
        pairs,
        usd,
        usd / nullif(pairs, 0) * 1e6 as usd_of_night_per_1m_pairs
    from priced

)

select * from final
