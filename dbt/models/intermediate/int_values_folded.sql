with recursive slices as (

    select * from {{ ref('stg_fieldmart__slice_shrinkage') }}

),

above as (

    select
        model_id,
        depth + 1 as depth,
        value as parent,
        sum(n) as n
    from slices
    group by model_id, depth, value

),

-- Of a parent, what lies under several parents or is too rare to be listed is in none of its values.
placed as (

    select
        slices.*,
        above.n - sum(slices.n) over (partition by slices.model_id, slices.depth, slices.parent) as left_over,
        slices.parent is not null and above.n is null as is_unlisted
    from slices
    left join above
        on slices.model_id = above.model_id and slices.depth = above.depth and slices.parent = above.parent

),

-- The whole is shown whatever its size. Both each parent and the level tell their totals.
judged as (

    select
        *,
        {% if var('k_anonymity') | int > 0 -%}
            depth > 0
            and (
                is_unlisted
                or {{ is_folded('entities', 'model_id, depth, parent', 'value', overlap=true, left_over='left_over') }}
                or {{ is_folded('entities', 'model_id, depth', 'value', overlap=true) }}
            )
        {%- else -%}
            false
        {%- endif %} as is_small
    from placed

),

-- What lies under a folded value goes with it: it would tell how much of the fold is not its own.
hidden as (

    select
        model_id,
        depth,
        value
    from judged
    where is_small
    union
    select
        judged.model_id,
        judged.depth,
        judged.value
    from hidden
    inner join judged
        on hidden.model_id = judged.model_id and hidden.depth + 1 = judged.depth and hidden.value = judged.parent

),

marked as (

    select
        judged.*,
        hidden.value is not null as is_folded
    from judged
    left join hidden
        on judged.model_id = hidden.model_id and judged.depth = hidden.depth and judged.value = hidden.value

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
    from marked
    group by model_id, level, depth, shown_value

),

final as (

    select * rename (shown_value as value, sum_p_of_all as sum_p)
    from folded

)

select * from final
