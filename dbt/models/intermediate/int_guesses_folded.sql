with guesses as (

    select
        *,
        {{ is_folded('entities', 'attribute', 'group_value') }} as is_folded
    from {{ ref('stg_fieldmart__fairness_proxy') }}

),

folded as (

    select
        model_id,
        attribute,
        {{ folded_name('group_value') }} as shown_value,
        max(groups) as groups,
        cast(sum(entities) as bigint) as entities,
        any_value(auc) filter (where not is_folded) as auc,
        any_value(auc_lo) filter (where not is_folded) as auc_lo,
        any_value(auc_hi) filter (where not is_folded) as auc_hi,
        {{ folded_mean('recall', 'entities', 'group_value') }} as recall,
        max(balanced_accuracy) as balanced_accuracy,
        max(fields) as fields,
        max(all_fields) as all_fields
    from guesses
    group by model_id, attribute, shown_value

),

final as (

    select * rename (shown_value as group_value)
    from folded

)

select * from final
