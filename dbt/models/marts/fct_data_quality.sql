with ingest_counts as (

    select * from {{ ref('stg_fieldmart__ingest_counts') }}

),

final as (

    select
        source,
        coalesce(reason, 'kept') as outcome,
        reason is null as is_kept,
        n_rows,
        n_rows / nullif(sum(n_rows) over (partition by source), 0) as share_of_source
    from ingest_counts

)

select * from final
