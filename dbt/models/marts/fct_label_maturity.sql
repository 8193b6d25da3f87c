with label_rates as (

    select * from {{ ref('stg_fieldmart__label_rates') }}

),

label_settling as (

    select * from {{ ref('stg_fieldmart__label_settling') }}

),

final as (

    select
        label_rates.period,
        label_rates.split,
        label_rates.exposures,
        label_rates.conversions,
        label_rates.is_mature,
        label_rates.conversions / nullif(label_rates.exposures, 0) as observed_rate,
        {{ wilson('label_rates.conversions', 'label_rates.exposures', '-') }} as observed_rate_lo,
        {{ wilson('label_rates.conversions', 'label_rates.exposures', '+') }} as observed_rate_hi,
        label_settling.immature as immature_exposures,
        label_rates.conversions_first,
        label_rates.conversions_former,
        label_rates.conversions - label_rates.conversions_former as conversions_gained,
        1 - label_rates.conversions_first / nullif(label_rates.conversions, 0) as late_share,
        label_rates.is_mature and label_rates.conversions = label_rates.conversions_former as is_final,
        label_settling.conversions_late,
        label_settling.expected as expected_conversions,
        label_settling.expected_lo as expected_conversions_lo,
        label_settling.expected_hi as expected_conversions_hi,
        label_rates.conversions / nullif(label_settling.expected, 0) as known_share,
        label_rates.conversions_first / nullif(label_rates.exposures, 0) as first_rate,
        label_settling.expected / nullif(label_rates.exposures, 0) as expected_rate,
        label_settling.expected_lo / nullif(label_rates.exposures, 0) as expected_rate_lo,
        label_settling.expected_hi / nullif(label_rates.exposures, 0) as expected_rate_hi
    from label_rates
    left join label_settling on label_rates.period = label_settling.period

)

select * from final
