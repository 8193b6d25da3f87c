with live as (

    select * from {{ ref('fct_live_performance') }}

),

latest as (

    select
        format(
            'The scores served in the period of {} expected {:,.0f} conversions (95 % interval {:,.0f} to {:,.0f}, if p'
            ' is right{}) of {:,d} exposures: {:.0f} % of all had a score.',
            period, expected_conversions, expected_lo, expected_hi,
            case
                when is_dispersion_known then ''
                else ' and exposures are independent, which no earlier period could check: rather too narrow'
            end,
            n, 100 * coverage
        )
        || case
            when not is_mature then format(' {:,d} are known by now; labels are not final.', conversions)
            else format(
                ' {:,d} came, {} the interval: expected over realised is {}. Logloss {:.5f}, estimated {:.5f} ({:.5f}'
                ' to {:.5f}); at the rate of the period alone it is {:.5f}.',
                conversions, case when is_inside then 'inside' else 'outside' end,
                coalesce(format('{:.3f}', calibration_ratio), 'not defined'), realised_logloss, estimated_logloss,
                estimated_logloss_lo, estimated_logloss_hi, base_rate_logloss
            )
        end as sentence
    from live
    where is_latest and n > 0

),

scored as (

    select
        format(
            ' Of {:d} periods with final labels the estimate held for the conversions of {:d} and the logloss of {:d}.',
            count(*), count(*) filter (where is_inside), count(*) filter (where is_logloss_inside)
        ) as sentence
    from live
    where is_inside is not null
    having count(*) > 1

),

final as (

    select
        'live_performance' as page,
        coalesce(
            (select latest.sentence from latest),
            'No scores that were served have met exposures of their period yet: a later night tells.'
        )
        || coalesce((select scored.sentence from scored), '') as sentence

)

select * from final
