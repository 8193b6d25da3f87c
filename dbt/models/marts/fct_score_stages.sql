with blocks as (

    select
        block,
        wall_s,
        read_s,
        prepare_s,
        score_s,
        rank_s,
        write_s,
        greatest(wall_s - read_s - prepare_s - score_s - rank_s - write_s, 0) as other_s
    from {{ ref('stg_fieldmart__score_blocks') }}

),

by_stage as (

    unpivot blocks on read_s, prepare_s, score_s, rank_s, write_s, other_s, wall_s into name timed value seconds

),

per_stage as (

    select
        case when timed = 'wall_s' then 'block' else replace(timed, '_s', '') end as stage,
        cast(
            list_position(['read_s', 'prepare_s', 'score_s', 'rank_s', 'write_s', 'other_s', 'wall_s'], timed)
            as integer
        ) as seq,
        timed <> 'wall_s' as is_part,
        count(*) as blocks,
        sum(seconds order by block) as total_s,
        quantile_cont(seconds, 0.5) as p50_s,
        quantile_cont(seconds, 0.9) as p90_s,
        quantile_cont(seconds, 0.95) as p95_s,
        quantile_cont(seconds, 0.99) as p99_s,
        max(seconds) as max_s
    from by_stage
    group by timed

),

shared as (

    select
        *,
        case when is_part then total_s / nullif(sum(total_s) filter (where is_part) over (), 0) end as share_of_time
    from per_stage

),

final as (

    select
        stage,
        seq,
        is_part,
        blocks,
        total_s,
        share_of_time,
        share_of_time is not null and row_number() over (order by share_of_time desc nulls last, seq asc) = 1
            as is_dominant,
        p50_s,
        p90_s,
        p95_s,
        p99_s,
        max_s
    from shared

)

select * from final
