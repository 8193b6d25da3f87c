with changes as (

    select * from {{ ref('stg_fieldmart__alias_changes') }}

),

spans as (

    select
        *,
        lead(changed_at) over (partition by contract, alias order by seq) as valid_to
    from changes

),

final as (

    select
        contract,
        alias,
        seq,
        model_id,
        release_id as shown_release_id,
        decision_id,
        cycle_date,
        cause,
        entry_id,
        note,
        changed_at as valid_from,
        valid_to,
        valid_to is null as is_current
    from spans

)

select * from final
