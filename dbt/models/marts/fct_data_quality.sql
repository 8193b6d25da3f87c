with ingest_counts as (

    select * from {{ ref('stg_fieldmart__ingest_counts') }}

),

final as (

    select
        source,
        coalesce(reason, 'kept') as outcome,
        reason is null as is_kept,
        case
            when reason is null then 'kept'
            when reason like 'duplicate of %' then 'duplicate'
            when reason like 'superseded by %' then 'superseded'
            when reason like 'file %: %' then 'refused file'
            else 'broken rule'
        end as category,
        n_rows,
        n_rows / nullif(sum(n_rows) over (partition by source), 0) as share_of_source
    from ingest_counts

)

select * from final
