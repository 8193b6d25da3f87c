with source as (

    select * from {{ source('fieldmart', 'ingest_counts') }}

),

renamed as (

    select
        cast(source as varchar) as source,
        cast(reason as varchar) as reason,
        cast(rows as bigint) as n_rows
    from source

)

select * from renamed
