with deciles as (

    select * from {{ ref('stg_fieldmart__value_deciles') }}

),

with_whole as (

    select
        *,
        sum(n) over (partition by policy) as n_of_all,
        sum(conversions) over (partition by policy) as conversions_of_all,
        sum(conversions) over (partition by policy order by decile) as conversions_so_far
    from deciles

),

final as (

    select
        policy,
        model_id,
        decile,
        n,
        conversions,
        sum_p,
        sales_value,
        conversions / n as observed_rate,
        observed_rate_lo,
        observed_rate_hi,
        sum_p / n as mean_p,
        (conversions / n) / nullif(conversions_of_all / n_of_all, 0) as uplift,
        conversions_so_far / nullif(conversions_of_all, 0) as captured_share,
        assumption
    from with_whole

)

select * from final
