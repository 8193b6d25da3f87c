with leakage as (

    select
        count(*) as n,
        count(passed) as measured,
        count_if(passed = false) as failed,
        string_agg(distinct subject, ', ' order by subject) filter (where passed = false) as subjects
    from {{ ref('fct_leakage') }}

),

age as (

    select
        format(
            ' A model left alone for {} more days loses {:+.2f} % of logloss{}.', age_days, 100 * change,
            coalesce(format(' (95 % interval {:+.2f} to {:+.2f} %)', 100 * change_lo, 100 * change_hi), '')
        ) as sentence
    from {{ ref('fct_model_age_effect') }}
    where kind = 'paired'

),

groups as (

    select
        count(*) as n,
        count_if(not is_below_min_n) as judged,
        count_if(is_off_band) as off
    from {{ ref('fct_fairness') }}

),

final as (

    select
        'audits' as page,
        case
            when leakage.n = 0 then 'Leakage was not audited.'
            when leakage.measured = 0 then format('None of {} leakage checks could be made.', leakage.n)
            when leakage.failed = 0 then format('None of {} leakage checks found anything.', leakage.measured)
            else format('{} of {} leakage checks failed: {}.', leakage.failed, leakage.measured, leakage.subjects)
        end
        || case
            when leakage.measured between 1 and leakage.n - 1
                then format(' {} more could not be made.', leakage.n - leakage.measured)
            else ''
        end
        || coalesce((select age.sentence from age), '')
        || case
            when groups.n = 0 then ' The contract declares no groups of people.'
            else format(
                ' Of {} groups of people {} have rows enough to be judged, and p is surely off in {} of them.',
                groups.n, groups.judged, groups.off
            )
        end as sentence
    from leakage
    cross join groups

)

select * from final
