with guesses as (

    select * from {{ ref('int_guesses_folded') }}

),

final as (

    select
        attribute,
        group_value,
        entities,
        auc,
        auc_lo,
        auc_hi,
        recall,
        balanced_accuracy,
        1 / groups as chance_accuracy,
        groups,
        fields,
        all_fields,
        coalesce(auc_lo > 0.5, false) as is_given_away
    from guesses

)

select * from final
