with recursive slices as (

    select * from {{ ref('stg_fieldmart__slice_shrinkage') }}

),

whole as (

    select
        model_id,
        n,
        conversions,
        sum_p,
        shrunk_ratio
    from slices
    where depth = 0

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

-- What is too rare to be listed is in none of the values of its level, what lies under several parents in none of those
-- of a parent.
placed as (

    select
        slices.*,
        above.n - sum(slices.n) over (partition by slices.model_id, slices.depth, slices.parent) as left_over,
        whole.n - sum(slices.n) over (partition by slices.model_id, slices.depth) as left_over_of_level,
        slices.parent is not null and above.n is null as is_unlisted
    from slices
    inner join whole on slices.model_id = whole.model_id
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
                or {{ is_folded('entities', 'model_id, depth', 'value', overlap=true, left_over='left_over_of_level') }}
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

shown as (

    select
        model_id,
        level,
        depth,
        value,
        is_unseen,
        n,
        conversions,
        sum_p,
        raw_ratio,
        shrunk_ratio,
        weight,
        parent_ratio,
        strength
    from marked
    where not is_folded

),

-- All that the whole has besides the visible values of the level, listed or not. As a sum of its own parts it would
-- tell, beside the fold of the level above, how many rows are in no listed value, and whose they are.
rest as (

    select
        marked.model_id,
        marked.level,
        marked.depth,
        bool_and(not marked.is_folded or marked.is_unseen) and any_value(marked.left_over_of_level) = 0 as is_unseen,
        any_value(whole.n) - coalesce(sum(marked.n) filter (where not marked.is_folded), 0) as n,
        any_value(whole.conversions)
        - coalesce(sum(marked.conversions) filter (where not marked.is_folded), 0) as conversions,
        any_value(whole.sum_p)
        - coalesce(sum(marked.sum_p order by marked.value) filter (where not marked.is_folded), 0) as sum_p,
        any_value(whole.shrunk_ratio) as parent_ratio,
        max(marked.strength) as strength
    from marked
    inner join whole on marked.model_id = whole.model_id
    group by marked.model_id, marked.level, marked.depth
    having bool_or(marked.is_folded)

),

-- As of one value below the whole: means of ratios and weights of the parts would tell the parts.
folded as (

    select
        *,
        conversions / sum_p as raw_ratio,
        sum_p / (sum_p + strength) as weight
    from rest

),

final as (

    select * from shown
    union all
    select
        model_id,
        level,
        depth,
        'n<{{ var('k_anonymity') }}' as value,
        is_unseen,
        cast(n as bigint) as n,
        cast(conversions as bigint) as conversions,
        sum_p,
        raw_ratio,
        weight * raw_ratio + (1 - weight) * parent_ratio as shrunk_ratio,
        weight,
        parent_ratio,
        strength
    from folded

)

select * from final
