with staleness_cost as (

    select * from {{ ref('stg_fieldmart__staleness_cost') }}

),

final as (

    select
        lag_periods,
        lag_periods * period_days as age_days,
        is_reference,
        model_id,
        n,
        conversions,
        sum_logloss / n as logloss,
        delta_logloss,
        delta_lo,
        delta_hi,
        delta_relative,
        delta_relative_lo,
        delta_relative_hi,
        not is_reference and coalesce(delta_relative_lo > 0, false) as is_worse,
        sum_p / nullif(conversions, 0) as calibration_ratio,
        calibration_ratio_lo,
        calibration_ratio_hi,
        budget_top_n,
        contacted,
        captured,
        captured / nullif(conversions, 0) as captured_share,
        captured_delta,
        captured_delta_lo,
        captured_delta_hi,
        captured_relative,
        captured_relative_lo,
        captured_relative_hi,
        not is_reference and coalesce(captured_delta_hi < 0, false) as captures_fewer,
        test_from,
        test_through,
        n_periods
    from staleness_cost

)

select * from final
