with ways as (

    select * from {{ ref('fct_delayed_feedback') }}
    where not is_reference

),

told as (

    select
        is_oracle,
        is_better,
        is_worse,
        delta_relative,
        format('{} {:+.2f} %', label, 100 * delta_relative)
        || coalesce(
            format(' (95 % interval {:+.2f} to {:+.2f} %)', 100 * delta_relative_lo, 100 * delta_relative_hi), ''
        ) as words
    from ways

),

sides as (

    select
        count(*) filter (where not is_oracle) as n_ways,
        string_agg(words, ', ' order by delta_relative) filter (where is_better and not is_oracle) as better,
        string_agg(words, ', ' order by delta_relative) filter (where is_worse and not is_oracle) as worse,
        string_agg(words, ', ' order by delta_relative) filter (
            where not is_better and not is_worse and not is_oracle
        ) as level,
        max(words) filter (where is_oracle) as oracle
    from told

),

about as (

    select
        max(n_dates) as n_dates,
        max(n) as n,
        max(conversions) as conversions
    from ways

),

final as (

    select
        'delayed_feedback' as page,
        case
            when sides.n_ways = 0
                then 'What to make of labels that are not final was not measured yet: run `fieldmart delayed-feedback`.'
            else format(
                'Logloss against training on final labels alone, at {:d} dates on {:,d} exposures with {:,d}'
                ' conversions.',
                about.n_dates, about.n, about.conversions
            )
            || coalesce(' Surely better: ' || sides.better || '.', ' No way is surely better.')
            || coalesce(' Surely worse: ' || sides.worse || '.', '')
            || coalesce(' Not told apart: ' || sides.level || '.', '')
            || coalesce(' Bound: ' || sides.oracle || '.', '')
        end as sentence
    from sides
    cross join about

)

select * from final
