with overall as (

    select * from {{ ref('fct_accuracy_cost_by_k') }}
    where is_verdict

),

slices as (

    select * from {{ ref('fct_calibration_by_slice') }}
    where is_verdict

),

counts as (

    select
        count(*) filter (where not is_below_min_n) as n_judged,
        count(*) filter (where is_miscalibrated) as n_miscalibrated,
        count(*) filter (where is_alarm) as n_alarms
    from slices

),

worst as (

    select * from slices
    where worst_rank = 1 and is_miscalibrated

),

described as (

    select
        format(
            'With k = {:d}, p is {:.3f} times the observed rate on the test periods',
            overall.k, overall.calibration_ratio
        )
        || coalesce(format(
            ' (95 % interval {:.3f} to {})',
            overall.calibration_ratio_lo, coalesce(format('{:.3f}', overall.calibration_ratio_hi), 'any')
        ), '')
        || format(
            '. {:d} of {:d} slices with enough rows are off by more than chance, {:d} of them by enough to matter',
            counts.n_miscalibrated, counts.n_judged, counts.n_alarms
        )
        || coalesce(format(
            '; most surely {} = {}: {:.3f} ({:.3f} to {}), {:,d} rows',
            worst.slice_type, worst.slice_value, worst.calibration_ratio,
            worst.calibration_ratio_lo, coalesce(format('{:.3f}', worst.calibration_ratio_hi), 'any'), worst.n
        ), '') || '.' as sentence
    from overall
    cross join counts
    left join worst on overall.model_id = worst.model_id

),

final as (

    select
        'calibration' as page,
        coalesce(any_value(sentence), 'No k was chosen: there is no model to show calibration of.') as sentence
    from described

)

select * from final
