with decision as (

    select * from {{ ref('fct_decisions') }}
    where is_of_release

),

rules as (

    select
        count(*) as n_rules,
        count(*) filter (where outcome = 'pass') as n_passed,
        count(*) filter (where outcome = 'missing') as n_missing,
        count(*) filter (where outcome = 'waived') as n_waived
    from {{ ref('fct_decision_rules') }}
    where is_of_release

),

release as (

    select * from {{ ref('dim_release') }}

),

scoring as (

    select * from {{ ref('fct_scoring') }}

),

final as (

    select
        'decision' as page,
        coalesce(
            decision.verdict
            || case when decision.verdict = 'GO' then '' else coalesce(' for k = ' || decision.k, '') end
            || ': ' || coalesce(rtrim(decision.reason, '.'), 'no reason was given') || '. '
            || case
                when rules.n_passed < rules.n_rules
                    then
                        format('{:d} of {:d} rules hold', rules.n_passed, rules.n_rules)
                        || case
                            when rules.n_missing > 0 then format(', {:d} without evidence', rules.n_missing) else ''
                        end
                        || case when rules.n_waived > 0 then format(', {:d} waived', rules.n_waived) else '' end
                        || '. '
                else ''
            end
            || case
                when decision.is_approved
                    then format('{} approved it: the model is promoted all the same. ', decision.approved_by)
                else ''
            end,
            'No decision on a model belongs to this release. '
        )
        || case
            when scoring.score_source = 'model' then 'The scores come from the champion of this night.'
            when scoring.is_stale
                then
                    format(
                        'The scores are those of the cycle of {}: {}.',
                        strftime(scoring.score_date, '%Y-%m-%d'), rtrim(scoring.reason, '.')
                    )
            when scoring.is_degraded
                then
                    format(
                        'The champion did not score, the hierarchical prior did: {}.', rtrim(scoring.reason, '.')
                    )
            else 'There is no champion: the scores come from the hierarchical prior.'
        end as sentence
    from release
    cross join scoring
    cross join rules
    left join decision on release.decision_id = decision.decision_id

)

select * from final
