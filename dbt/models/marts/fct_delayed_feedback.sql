with delayed_feedback as (

    select * from {{ ref('stg_fieldmart__delayed_feedback') }}

),

final as (

    select
        method,
        case method
            when 'mature_only' then 'mature rows only'
            when 'naive' then 'unseen is negative'
            when 'fake_negatives' then 'fake negatives, weighted (FNW)'
            when 'importance_weights' then 'importance weights (FSIW)'
            when 'oracle' then 'final labels (nobody has them)'
        end as label,
        is_reference,
        is_oracle,
        n,
        conversions,
        sum_logloss / n as logloss,
        delta_logloss,
        delta_logloss_lo,
        delta_logloss_hi,
        delta_relative,
        delta_relative_lo,
        delta_relative_hi,
        not is_reference and coalesce(delta_relative_hi < 0, false) as is_better,
        not is_reference and coalesce(delta_relative_lo > 0, false) as is_worse,
        sum_p / nullif(conversions, 0) as calibration_ratio,
        calibration_ratio_lo,
        calibration_ratio_hi,
        delta_calibration,
        delta_calibration_lo,
        delta_calibration_hi,
        train_rows,
        train_conversions,
        as_of_from,
        as_of_through,
        n_dates,
        n_seeds
    from delayed_feedback

)

select * from final
