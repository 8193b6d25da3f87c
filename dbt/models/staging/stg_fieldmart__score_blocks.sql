with source as (

    select * from {{ source('fieldmart', 'score_blocks') }}

),

renamed as (

    select
        cast(block as integer) as block,
        cast(entities as bigint) as entities,
        cast(pairs as bigint) as pairs,
        cast(read_s as double) as read_s,
        cast(prepare_s as double) as prepare_s,
        cast(score_s as double) as score_s,
        cast(rank_s as double) as rank_s,
        cast(write_s as double) as write_s,
        cast(wall_s as double) as wall_s,
        cast(cpu_s as double) as cpu_s,
        cast(jit_s as double) as jit_s,
        cast(peak_rss_mib as double) as peak_rss_mib,
        cast(bytes_written as bigint) as bytes_written,
        cast(worker as varchar) as worker,
        cast(model_loads as integer) as model_loads,
        cast(is_resumed as boolean) as is_resumed
    from source

)

select * from renamed
