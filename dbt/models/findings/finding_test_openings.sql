with latest as (

    select * from {{ ref('fct_test_openings') }}
    where is_latest

),

described as (

    select
        format(
            'The test periods {} to {} were opened {} for {:d} models',
            strftime(test_from, '%Y-%m-%d'), strftime(test_through, '%Y-%m-%d'),
            case nth when 1 then 'once,' else nth || ' times, last' end, n_models
        )
        || case
            when nth > 1 then ': the more often, the likelier a good result is luck.' else '.'
        end as sentence
    from latest

),

final as (

    select
        'test_openings' as page,
        coalesce(any_value(sentence), 'No opening of the test periods is on record.') as sentence
    from described

)

select * from final
