with fields as (

    select * from {{ ref('fct_drift_by_field') }}
    where is_latest_period

),

score as (

    select
        max(period) as period,
        max(status) as status,
        max(psi_excess) as psi_excess
    from {{ ref('fct_score_drift') }}
    where is_latest_period

),

scoring as (

    select is_stale from {{ ref('fct_scoring') }}

),

counts as (

    select
        max(period) as period,
        count(*) as n_fields,
        count(*) filter (where status = 'alarm') as n_alarm,
        count(*) filter (where status = 'watch') as n_watch,
        arg_max(field, psi_excess) as field,
        max(psi_excess) as psi_excess
    from fields

),

final as (

    select
        'drift' as page,
        case
            when counts.n_fields = 0 then 'No period after the training periods was compared.'
            else format(
                'In the period of {}, {:d} of {:d} fields moved from the training periods ({:d} alarm, {:d} watch);'
                ' most {}, with a PSI {:.3f} above what no drift would give.',
                strftime(counts.period, '%Y-%m-%d'), counts.n_alarm + counts.n_watch, counts.n_fields,
                counts.n_alarm, counts.n_watch, counts.field, counts.psi_excess
            )
        end
        || case
            when scoring.is_stale then ' Tonight''s scores are stale and not compared.' else ''
        end
        || coalesce(
            format(
                ' The score{}: {}, {:.3f}.',
                case
                    when scoring.is_stale then format(' of the period of {}', strftime(score.period, '%Y-%m-%d'))
                    else ''
                end,
                score.status, score.psi_excess
            ), ''
        ) as sentence
    from counts
    cross join score
    cross join scoring

)

select * from final
