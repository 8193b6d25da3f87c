with described as (

    select
        format(
            'The debiased calibration error on test is {:.5f} on the scale of p, where {:.5f} convert',
            calibration_error, observed_rate
        )
        || coalesce(
            format(' (95 % interval {:.5f} to {:.5f})', calibration_error_lo, calibration_error_hi), ''
        )
        || case when is_miscalibrated then ': surely more than chance.' else ': no more than chance explains.' end
        || format(
            ' The raw error is {:.5f}; a perfect model would have {:.5f} on as many rows. Miscalibration is {:.2f} %'
            ' of logloss.',
            ece_raw, ece_raw_if_perfect, 100 * miscalibration_share
        ) as sentence
    from {{ ref('fct_calibration_error') }}
    where is_verdict and observed_rate is not null

),

final as (

    select
        'reliability' as page,
        coalesce(any_value(sentence), 'No k was chosen: there is no model whose reliability could be shown.')
            as sentence
    from described

)

select * from final
