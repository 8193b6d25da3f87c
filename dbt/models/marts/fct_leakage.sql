with leakage as (

    select * from {{ ref('stg_fieldmart__leakage') }}

),

measured as (

    select
        *,
        case audit
            when 'keys_only' then value - allowed
            when 'shuffled_labels' then allowed - abs(value - 0.5)
            else allowed - value
        end as headroom
    from leakage

),

final as (

    select
        model_id,
        audit,
        subject,
        value,
        value_lo,
        value_hi,
        allowed,
        passed,
        headroom,
        cast(
            row_number() over (partition by audit order by headroom asc nulls last, subject asc) as integer
        ) as suspicion_rank,
        why
    from measured

)

select * from final
