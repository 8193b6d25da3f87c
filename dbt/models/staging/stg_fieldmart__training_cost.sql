with source as (

    select * from {{ source('fieldmart', 'training_cost') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(k as integer) as k,
        cast(seed as integer) as seed,
        cast(stage as varchar) as stage,
        cast(partition as integer) as partition,
        cast(rows as bigint) as n_rows,
        cast(wall_s as double) as wall_s,
        cast(cpu_s as double) as cpu_s,
        cast(jit_s as double) as jit_s,
        cast(peak_rss_mib as double) as peak_rss_mib,
        cast(bytes_read as bigint) as bytes_read,
        cast(artifact_bytes as bigint) as artifact_bytes,
        cast(rows_per_s as double) as rows_per_s
    from source

)

select * from renamed
