with slices as (

    select
        *,
        {{ is_folded('n', 'model_id, depth', 'value') }} as is_folded
    from {{ ref('stg_fieldmart__slice_shrinkage') }}

),

-- A corrected p of what is folded has as many conversions as its parts: ratios are means weighted by sum_p.
folded as (

    select
        model_id,
        level,
        depth,
        {{ folded_name('value') }} as shown_value,
        bool_and(is_unseen) as is_unseen,
        cast(sum(n) as bigint) as n,
        cast(sum(conversions) as bigint) as conversions,
        sum(sum_p order by value) as sum_p_of_all,
        {{ folded_mean('raw_ratio', 'sum_p', 'value') }} as raw_ratio,
        {{ folded_mean('shrunk_ratio', 'sum_p', 'value') }} as shrunk_ratio,
        {{ folded_mean('weight', 'sum_p', 'value') }} as weight,
        {{ folded_mean('parent_ratio', 'sum_p', 'value') }} as parent_ratio,
        max(strength) as strength
    from slices
    group by model_id, level, depth, shown_value

),

final as (

    select * rename (shown_value as value, sum_p_of_all as sum_p)
    from folded

)

select * from final
