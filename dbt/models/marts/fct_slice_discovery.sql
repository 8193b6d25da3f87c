with discovery as (

    select
        *,
        split_part(slice_a, ' = ', 1) as type_a,
        split_part(slice_b, ' = ', 1) as type_b
    from {{ ref('stg_fieldmart__slice_discovery') }}
    where coalesce(least(search_n, confirm_n), 0) >= {{ var('k_anonymity') }}

),

slices as (

    select
        model_id,
        slice_type || ' = ' || slice_value as slice,
        n
    from {{ ref('int_slices_folded') }}

),

-- What a slice has besides its pairs with slices of another type must not be too small either.
remainders as (

    select
        discovery.*,
        whole_a.n
        - sum(discovery.search_n + discovery.confirm_n)
            over (partition by discovery.model_id, discovery.slice_a, discovery.type_b)
            as rest_of_a,
        whole_b.n
        - sum(discovery.search_n + discovery.confirm_n)
            over (partition by discovery.model_id, discovery.slice_b, discovery.type_a)
            as rest_of_b
    from discovery
    left join slices as whole_a on discovery.model_id = whole_a.model_id and discovery.slice_a = whole_a.slice
    left join slices as whole_b on discovery.model_id = whole_b.model_id and discovery.slice_b = whole_b.slice

),

-- A slice that is folded has no rest: its pairs are not shown.
shown as (

    select * from remainders
    where
        {{ var('k_anonymity') }} = 0
        or (
            (rest_of_a = 0 or rest_of_a >= {{ var('k_anonymity') }})
            and (rest_of_b = 0 or rest_of_b >= {{ var('k_anonymity') }})
        )

),

comparison as (

    select * from {{ ref('stg_fieldmart__k_comparison') }}

),

final as (

    select
        shown.model_id,
        coalesce(comparison.is_verdict, false) as is_verdict,
        shown.slice_a,
        shown.slice_b,
        shown.is_confirmed,
        shown.search_n,
        shown.search_conversions,
        shown.search_sum_p / nullif(shown.search_conversions, 0) as search_ratio,
        shown.search_p_adjusted,
        shown.confirm_n,
        shown.confirm_conversions,
        shown.confirm_sum_p / nullif(shown.confirm_conversions, 0) as confirm_ratio,
        shown.confirm_p_adjusted,
        shown.confirm_sum_p - shown.confirm_conversions as confirm_excess_conversions,
        shown.n_searched
    from shown
    left join comparison on shown.model_id = comparison.model_id

)

select * from final
