with leakage as (

    select * from {{ ref('stg_fieldmart__leakage') }}

),

measured as (

    select
        *,
        case
            when audit = 'keys_only' then value - allowed
            -- the end of the interval that is nearer to chance; without an interval nothing was measured
            when audit = 'shuffled_labels' and value_lo is null then null
            when audit = 'shuffled_labels' then allowed - greatest(value_lo - 0.5, 0.5 - value_hi, 0)
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
