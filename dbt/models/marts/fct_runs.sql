with runs as (

    select * from {{ ref('stg_fieldmart__runs') }}

),

run_stages as (

    select * from {{ ref('stg_fieldmart__run_stages') }}

),

per_run as (

    select
        run_id,
        sum(wall_s order by seq) as wall_s,
        max(peak_rss_mib) as peak_rss_mib,
        count(*) filter (where status = 'reused') as stages_reused,
        count(*) as stages
    from run_stages
    group by run_id

),

final as (

    select
        runs.*,
        per_run.wall_s,
        per_run.peak_rss_mib,
        coalesce(per_run.stages, 0) as stages,
        coalesce(per_run.stages_reused, 0) as stages_reused
    from runs
    left join per_run on runs.run_id = per_run.run_id

)

select * from final
