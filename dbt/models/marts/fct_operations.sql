with operations as (

    select * from {{ ref('stg_fieldmart__operations') }}

),

final as (

    select
        cast(row_number() over (order by happened_at, kind, detail, seconds) as bigint) as seq,
        happened_at,
        kind,
        ok,
        seconds,
        bytes,
        rpo_s,
        detail,
        case
            when ok then seconds / nullif(lag(seconds) over (partition by kind, ok order by happened_at, detail), 0) - 1
        end as growth
    from operations

)

select * from final
