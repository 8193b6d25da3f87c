with value_periods as (

    select * from {{ ref('stg_fieldmart__value_periods') }}

),

final as (

    select
        policy,
        model_id,
        period,
        pairs,
        contacted,
        conversions,
        sales_value,
        margin_value,
        contact_cost,
        wrong_contact_cost,
        profit,
        conversions / nullif(contacted, 0) as conversion_rate,
        profit / nullif(contacted, 0) * 1000 as usd_profit_per_1k_contacts,
        assumption
    from value_periods

)

select * from final
