with latency as (

    select distinct
        grp,
        horizon_days,
        latency_p50_days,
        latency_p90_days
    from {{ ref('fct_label_delay') }}

),

everybody as (

    select
        case
            when latency_p50_days is null
                then 'How late conversions come is not known yet: none was watched to the end of the window.'
            else format(
                'Half of the conversions come within {:d} {} of the exposure and nine tenths within {:d}; labels are'
                ' final after {:d}.',
                latency_p50_days, case when latency_p50_days = 1 then 'day' else 'days' end, latency_p90_days,
                horizon_days
            )
        end as sentence
    from latency
    where grp = 'all'

),

slowest as (

    select format(' Slowest: {}, half within {:d}.', grp, latency_p50_days) as sentence
    from latency
    where grp <> 'all' and latency_p50_days is not null
    order by latency_p50_days desc, latency_p90_days desc, grp asc
    limit 1

),

open_periods as (

    select
        case
            when count(*) = 0 then ' The labels of all periods are final.'
            else format(
                ' The labels of {:d} {} are not final: {:,d} conversions are known, {:,d} exposures are immature and'
                ' count as nothing yet.',
                count(*), case when count(*) = 1 then 'period' else 'periods' end,
                cast(sum(conversions) as bigint), cast(sum(immature_exposures) as bigint)
            )
        end as sentence
    from {{ ref('fct_label_maturity') }}
    where immature_exposures > 0

),

final as (

    select
        'label_delay' as page,
        coalesce((select everybody.sentence from everybody), 'No label delay was measured.')
        || coalesce((select slowest.sentence from slowest), '')
        || (select open_periods.sentence from open_periods) as sentence

)

select * from final
