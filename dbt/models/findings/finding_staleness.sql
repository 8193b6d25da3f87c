with older as (

    select
        *,
        row_number() over (order by lag_periods asc) = 1 as is_youngest,
        row_number() over (order by lag_periods desc) = 1 as is_oldest,
        age_days || case when age_days = 1 then ' day' else ' days' end as age,
        format('{:+.2f} %', 100 * delta_relative)
        || coalesce(
            format(' (95 % interval {:+.2f} to {:+.2f} %)', 100 * delta_relative_lo, 100 * delta_relative_hi), ''
        ) as loss,
        coalesce(
            format('{:+.2f} %', 100 * captured_relative)
            || coalesce(
                format(' ({:+.2f} to {:+.2f} %)', 100 * captured_relative_lo, 100 * captured_relative_hi), ''
            ),
            'none to lose'
        ) as conversions_lost
    from {{ ref('fct_staleness_cost') }}
    where not is_reference

),

youngest as (

    select
        format(
            'Scores that are {} old instead of fresh change test logloss by {}{} and the conversions among the top {:d}'
            ' entities of each candidate by {}{}.',
            age, loss, case when is_worse then ', surely a loss,' else '' end, budget_top_n, conversions_lost,
            case when captures_fewer then ', surely fewer' else '' end
        ) as sentence
    from older
    where is_youngest

),

oldest as (

    select format(' At {} it is {} and {}.', age, loss, conversions_lost) as sentence
    from older
    where is_oldest and not is_youngest

),

final as (

    select
        'staleness' as page,
        coalesce(
            (select youngest.sentence from youngest),
            'What older scores cost was not measured yet: run `fieldmart staleness`.'
        )
        || coalesce((select oldest.sentence from oldest), '') as sentence

)

select * from final
