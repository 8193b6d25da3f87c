with comparison as (

    select * from {{ ref('fct_kpi_lift') }}
    where policy = 'model' and objective = 'profit'

),

described as (

    select
        n_periods,
        baseline,
        {{ signed('delta') }} || ' USD of profit against ' || baseline
        || coalesce(
            ' (95 % interval ' || {{ signed('delta_lo') }} || ' to ' || {{ signed('delta_hi') }}
            || coalesce(format(', a lift of {:.1f} %', 100 * lift), '') || ')', ''
        ) as part
    from comparison
    where not is_upper_bound

),

-- the profit itself, and how far it is from what nobody can reach
reached as (

    select
        coalesce(format(
            ' The profit itself is {} USD (5th to 95th percentile {} to {})',
            {{ signed('any_value(total)') }}, {{ signed('any_value(total_p5)') }}, {{ signed('any_value(total_p95)') }}
        ), '')
        || coalesce(format(
            ', {:.1f} % of what knowing every purchase beforehand would have made',
            100 * any_value(total) filter (where is_upper_bound)
            / nullif(greatest(any_value(baseline_total) filter (where is_upper_bound), 0), 0)
        ), '') || '.' as part
    from comparison

),

final as (

    select
        'kpi_lift' as page,
        coalesce(
            format(
                'Over {:d} test periods the pairs chosen by the model would have brought {}:'
                ' a backtest under the assumption below, not an effect of contacting.',
                max(described.n_periods), string_agg(described.part, ' and ' order by described.baseline)
            ) || any_value(reached.part),
            'The value of the model was not compared with any baseline.'
        ) as sentence
    from described
    cross join reached

)

select * from final
