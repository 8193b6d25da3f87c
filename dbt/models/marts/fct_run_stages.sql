with run_stages as (

    select * from {{ ref('stg_fieldmart__run_stages') }}

),

final as (

    select
        run_id,
        seq,
        stage,
        status,
        started_at,
        wall_s,
        n_rows,
        bytes_written,
        peak_rss_mib,
        n_rows / nullif(wall_s, 0) as rows_per_s,
        wall_s / nullif(sum(wall_s) over (partition by run_id), 0) as share_of_wall
    from run_stages

)

select * from final
