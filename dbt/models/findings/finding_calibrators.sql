with chosen as (

    select * from {{ ref('fct_calibrator_comparison') }}
    where is_verdict and is_chosen

),

others as (

    select
        *,
        row_number() over (order by test_logloss asc, method asc) = 1 as is_best
    from {{ ref('fct_calibrator_comparison') }}
    where is_verdict and not is_chosen

),

described as (

    select
        format('The chosen model is calibrated by {}: {}.', chosen.method, chosen.why)
        || format(
            ' On {:d} test periods logloss is {:.6f}; the best of the other methods, {}, has {:.6f}',
            chosen.test_periods, chosen.test_logloss, others.method, others.test_logloss
        )
        || coalesce(format(
            ' ({:+.6f} against platt, 95 % interval {:+.6f} to {:+.6f})',
            others.test_delta, others.test_delta_lo, others.test_delta_hi
        ), '') || '.' as sentence
    from chosen
    inner join others on others.is_best and chosen.test_logloss is not null and others.test_logloss is not null

),

final as (

    select
        'calibrators' as page,
        coalesce(any_value(sentence), 'No k was chosen: there is no model whose calibrator could be compared.')
            as sentence
    from described

)

select * from final
