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

),

final as (

    select
        'kpi_lift' as page,
        coalesce(
            format(
                'Over {:d} test periods the pairs chosen by the model would have brought {}:'
                ' a backtest under the assumption below, not an effect of contacting.',
                max(n_periods), string_agg(part, ' and ' order by baseline)
            ),
            'The value of the model was not compared with any baseline.'
        ) as sentence
    from described

)

select * from final
