with source as (

    select * from {{ source('fieldmart', 'nights') }}

),

renamed as (

    select
        cast(contract as varchar) as contract,
        cast(cycle_date as date) as cycle_date,
        cast(is_own as boolean) as is_own,
        cast(is_replay as boolean) as is_replay,
        cast(started_at as timestamp) as started_at,
        cast(due_at as timestamp) as due_at,
        cast(published_at as timestamp) as published_at,
        cast(release_id as varchar) as release_id,
        cast(wall_s as double) as wall_s,
        cast(cpu_s as double) as cpu_s,
        cast(peak_rss_mib as double) as peak_rss_mib,
        cast(verdict as varchar) as verdict,
        cast(k as integer) as k,
        cast(champion_model_id as varchar) as champion_model_id,
        cast(score_source as varchar) as score_source,
        cast(is_degraded as boolean) as is_degraded,
        cast(logloss as double) as logloss,
        cast(pairs as bigint) as pairs
    from source

)

select * from renamed
