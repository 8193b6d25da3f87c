with verdict as (

    select * from {{ ref('fct_baselines') }}
    where is_verdict

),

counts as (

    select
        count(*) as n_baselines,
        count(*) filter (where is_beaten) as n_beaten
    from {{ ref('fct_baselines') }}
    where not is_verdict

),

strongest as (

    select * from {{ ref('fct_baselines') }}
    where rank_among_baselines = 1

),

described as (

    select
        format(
            '{} {} {} by {:.1f} % of test logloss, {:.5f} against {:.5f} over {:d} periods',
            verdict.label,
            case
                when strongest.is_beaten then 'beats'
                when strongest.delta_lo > 0 then 'is beaten by'
                when strongest.delta_logloss < 0 then 'is ahead of, but not surely better than,'
                else 'is behind, but not surely worse than,'
            end,
            case when counts.n_baselines > 1 then 'the best baseline, ' else '' end
            || case when strongest.algorithm = 'prior' then 'the ' else '' end || strongest.label
            || case when counts.n_baselines > 1 then ',' else '' end,
            100 * abs(strongest.delta_relative), verdict.logloss, strongest.logloss, verdict.n_periods
        )
        || coalesce(format(
            ' (95 % interval of the difference {:+.1f} to {:+.1f} %)',
            100 * strongest.delta_relative_lo, 100 * strongest.delta_relative_hi
        ), '')
        || coalesce(format(
            ', at {:.6f} against {:.6f} USD per million scores', verdict.usd_per_1m_scores, strongest.usd_per_1m_scores
        ), '')
        || '. '
        || case
            when counts.n_baselines = 1
                then 'It is the only baseline of this night: a sweep (`fieldmart nightly --sweep`) trains the others.'
            else format('{:d} of {:d} baselines are surely beaten.', counts.n_beaten, counts.n_baselines)
        end as sentence
    from verdict
    cross join counts
    inner join strongest on true

),

final as (

    select
        'baselines' as page,
        coalesce(any_value(sentence), 'The chosen model was not compared with any baseline.') as sentence
    from described

)

select * from final
