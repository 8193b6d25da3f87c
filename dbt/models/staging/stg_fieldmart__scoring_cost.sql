with source as (

    select * from {{ source('fieldmart', 'scoring_cost') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(k as integer) as k,
        cast(repeat as integer) as repeat,
        cast(rows as bigint) as n_rows,
        cast(wall_s as double) as wall_s,
        cast(cpu_s as double) as cpu_s,
        cast(peak_rss_mib as double) as peak_rss_mib
    from source

)

select * from renamed
