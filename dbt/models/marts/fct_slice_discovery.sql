with discovery as (

    select * from {{ ref('stg_fieldmart__slice_discovery') }}
    where coalesce(least(search_n, confirm_n), 0) >= {{ var('k_anonymity') }}

),

comparison as (

    select * from {{ ref('stg_fieldmart__k_comparison') }}

),

final as (

    select
        discovery.model_id,
        coalesce(comparison.is_verdict, false) as is_verdict,
        discovery.slice_a,
        discovery.slice_b,
        discovery.is_confirmed,
        discovery.search_n,
        discovery.search_conversions,
        discovery.search_sum_p / nullif(discovery.search_conversions, 0) as search_ratio,
        discovery.search_p_adjusted,
        discovery.confirm_n,
        discovery.confirm_conversions,
        discovery.confirm_sum_p / nullif(discovery.confirm_conversions, 0) as confirm_ratio,
        discovery.confirm_p_adjusted,
        discovery.confirm_sum_p - discovery.confirm_conversions as confirm_excess_conversions,
        discovery.n_searched
    from discovery
    left join comparison on discovery.model_id = comparison.model_id

)

select * from final
