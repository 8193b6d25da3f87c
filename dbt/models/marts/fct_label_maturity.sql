with label_rates as (

    select * from {{ ref('stg_fieldmart__label_rates') }}

),

final as (

    select
        period,
        split,
        exposures,
        conversions,
        is_mature,
        conversions / nullif(exposures, 0) as observed_rate,
        {{ wilson('conversions', 'exposures', '-') }} as observed_rate_lo,
        {{ wilson('conversions', 'exposures', '+') }} as observed_rate_hi
    from label_rates

)

select * from final
