with scoring as (

    select * from {{ ref('fct_scoring') }}

),

audits as (

    select
        count(*) filter (where is_of_served_scores) as n_audits,
        count(*) filter (where is_of_served_scores and passed) as n_passed,
        count(*) filter (where is_of_served_scores and value is null) as n_unmeasured,
        string_agg(audit, ', ' order by attempt, audit) filter (where is_of_served_scores and not passed) as failed,
        string_agg(audit || ' (' || score_source || ')', ', ' order by attempt, audit)
        filter (where not is_of_served_scores and not passed) as refused
    from {{ ref('fct_score_audits') }}

),

final as (

    select
        'scores' as page,
        case
            when scoring.score_source = 'model' then format('The champion {} scored', scoring.model_id)
            when scoring.is_stale
                then
                    format(
                        'Stale: {}. What is served are the scores that model {} made for the cycle of {}:',
                        rtrim(scoring.reason, '.'), scoring.model_id, strftime(scoring.score_date, '%Y-%m-%d')
                    )
            when scoring.is_degraded
                then
                    format(
                        'Prior instead of the champion: {}. The hierarchical prior scored', rtrim(scoring.reason, '.')
                    )
            else 'There is no champion: the hierarchical prior scored'
        end
        || format(
            ' {:,d} pairs of {:,d} entities and {:,d} candidates from data before {}{}. ',
            scoring.pairs, scoring.entities, scoring.candidates,
            strftime(scoring.data_through, '%Y-%m-%d %H:%M'),
            case
                when scoring.staleness_hours > 0
                    then format(', {:.1f} hours behind those of this cycle', scoring.staleness_hours)
                else ''
            end
        )
        || case
            when audits.n_audits = 0 then 'Their audits are those of their own night.'
            when audits.n_passed = audits.n_audits then format('All {:d} audits passed.', audits.n_audits)
            else format(
                '{:d} of {:d} audits passed, not {}.', audits.n_passed, audits.n_audits, audits.failed
            )
        end
        || case
            when audits.n_unmeasured > 0 then format(' {:d} had nothing to measure.', audits.n_unmeasured) else ''
        end
        || coalesce(format(' Refused before: {}.', audits.refused), '') as sentence
    from scoring
    cross join audits

)

select * from final
