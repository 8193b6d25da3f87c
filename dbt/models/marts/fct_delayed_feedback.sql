with delayed_feedback as (

    select * from {{ ref('stg_fieldmart__delayed_feedback') }}

),

methods as (

    select * from {{ ref('delayed_feedback_methods') }}

),

final as (

    select
        delayed_feedback.method,
        methods.label,
        delayed_feedback.is_reference,
        delayed_feedback.is_oracle,
        delayed_feedback.n,
        delayed_feedback.conversions,
        delayed_feedback.sum_logloss / delayed_feedback.n as logloss,
        delayed_feedback.delta_logloss,
        delayed_feedback.delta_logloss_lo,
        delayed_feedback.delta_logloss_hi,
        delayed_feedback.delta_relative,
        delayed_feedback.delta_relative_lo,
        delayed_feedback.delta_relative_hi,
        not delayed_feedback.is_reference and coalesce(delayed_feedback.delta_relative_hi < 0, false) as is_better,
        not delayed_feedback.is_reference and coalesce(delayed_feedback.delta_relative_lo > 0, false) as is_worse,
        delayed_feedback.sum_p / nullif(delayed_feedback.conversions, 0) as calibration_ratio,
        delayed_feedback.calibration_ratio_lo,
        delayed_feedback.calibration_ratio_hi,
        delayed_feedback.delta_calibration,
        delayed_feedback.delta_calibration_lo,
        delayed_feedback.delta_calibration_hi,
        delayed_feedback.train_rows,
        delayed_feedback.train_conversions,
        delayed_feedback.as_of_from,
        delayed_feedback.as_of_through,
        delayed_feedback.n_dates,
        delayed_feedback.n_seeds
    from delayed_feedback
    left join methods on delayed_feedback.method = methods.method

)

select * from final
