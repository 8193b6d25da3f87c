with promises as (

    select
        count(*) as promised,
        count(*) filter (where is_met) as kept,
        count(*) filter (where not is_met) as broken,
        count(*) filter (where is_met is null) as unobserved,
        string_agg(sentence, ' ' order by seq) filter (where is_alarm) as alarms
    from {{ ref('fct_slo') }}

),

nights as (

    select
        count(*) as n,
        quantile_cont(wall_s, 0.5) as p50_s,
        quantile_cont(wall_s, 0.95) as p95_s
    from {{ ref('fct_nights') }}
    where not is_own

),

bottleneck as (

    select
        format(
            ' The stage that takes longest is {}, with {:.0f} % of the time of all nights.', stage, 100 * share_of_time
        ) as sentence
    from {{ ref('fct_stage_percentiles') }}
    where is_dominant

),

final as (

    select
        'operations' as page,
        format(
            'Of {:d} promises (conf/slo.yml) {:d} are kept, {:d} broken and {:d} not observed yet.',
            promises.promised, promises.kept, promises.broken, promises.unobserved
        )
        || coalesce(' ' || promises.alarms, '')
        || case
            when nights.n = 0 then ' This is the first night.'
            when nights.n = 1 then format(' The night before took {:.0f} s.', nights.p50_s)
            else format(
                ' Half of the {:d} earlier nights took at most {:.0f} s, 95 % at most {:.0f} s.', nights.n,
                nights.p50_s, nights.p95_s
            )
        end
        || coalesce((select bottleneck.sentence from bottleneck), '') as sentence
    from promises
    cross join nights

)

select * from final
