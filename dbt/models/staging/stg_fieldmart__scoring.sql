with source as (

    select * from {{ source('fieldmart', 'scoring') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(calibrator_id as varchar) as calibrator_id,
        cast(source as varchar) as source,
        cast(reason as varchar) as reason,
        cast(requested_model_id as varchar) as requested_model_id,
        cast(is_degraded as boolean) as is_degraded,
        cast(score_date as date) as score_date,
        cast(scored_at as timestamp) as scored_at,
        cast(data_through as timestamp) as data_through,
        cast(engine as varchar) as engine,
        cast(entities as bigint) as entities,
        cast(candidates as bigint) as candidates,
        cast(pairs as bigint) as pairs,
        cast(blocks as bigint) as blocks,
        cast(wall_s as double) as wall_s,
        cast(cpu_s as double) as cpu_s,
        cast(peak_rss_mib as double) as peak_rss_mib,
        cast(skew as double) as skew,
        cast(scores_sha256 as varchar) as scores_sha256,
        cast(shadow_model_id as varchar) as shadow_model_id
    from source

)

select * from renamed
