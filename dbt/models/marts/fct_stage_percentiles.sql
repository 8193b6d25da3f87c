with night_stages as (

    select
        contract,
        stage,
        is_part,
        cycle_date,
        wall_s
    from {{ ref('stg_fieldmart__night_stages') }}
    where status = 'done'

),

-- What runs beside the nights, as far as it is timed; publish and guard are stages of the night already.
beside as (

    select
        cast(null as varchar) as contract,
        kind as stage,
        false as is_part,
        happened_at,
        seconds as wall_s
    from {{ ref('stg_fieldmart__operations') }}
    where seconds is not null and ok and kind not in ('publish', 'guard')

),

timed as (

    select
        'night' as kind,
        stage,
        is_part,
        cast(cycle_date as timestamp) as happened_at,
        wall_s
    from night_stages
    union all
    select
        'operation' as kind,
        stage,
        is_part,
        happened_at,
        wall_s
    from beside

),

per_stage as (

    select
        kind,
        stage,
        is_part,
        count(*) as n,
        sum(wall_s order by happened_at) as total_s,
        quantile_cont(wall_s, 0.5) as p50_s,
        quantile_cont(wall_s, 0.9) as p90_s,
        quantile_cont(wall_s, 0.95) as p95_s,
        quantile_cont(wall_s, 0.99) as p99_s,
        max(wall_s) as max_s,
        arg_max(wall_s, happened_at) as last_s
    from timed
    group by kind, stage, is_part

),

shared as (

    select
        *,
        case
            when kind = 'night' and not is_part
                then total_s / nullif(sum(total_s) filter (where kind = 'night' and not is_part) over (), 0)
        end as share_of_time
    from per_stage

),

final as (

    select
        kind,
        stage,
        is_part,
        n,
        total_s,
        share_of_time,
        share_of_time is not null and row_number() over (order by share_of_time desc nulls last, stage asc) = 1
            as is_dominant,
        p50_s,
        p90_s,
        p95_s,
        p99_s,
        max_s,
        last_s
    from shared

)

select * from final
