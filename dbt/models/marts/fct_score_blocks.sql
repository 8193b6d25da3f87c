with blocks as (

    select * from {{ ref('stg_fieldmart__score_blocks') }}

),

compared as (

    select
        *,
        wall_s / nullif(median(wall_s) over (), 0) as wall_over_median
    from blocks

),

final as (

    select
        block,
        entities,
        pairs,
        read_s,
        prepare_s,
        score_s,
        rank_s,
        write_s,
        wall_s,
        cpu_s,
        jit_s,
        pairs / nullif(wall_s, 0) as pairs_per_s,
        wall_over_median,
        coalesce(wall_over_median > {{ var('skew_alarm') }}, false) as is_skewed,
        peak_rss_mib,
        bytes_written,
        worker,
        model_loads,
        is_resumed
    from compared

)

select * from final
