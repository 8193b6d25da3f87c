with source as (

    select * from {{ source('fieldmart', 'night_stages') }}

),

renamed as (

    select
        cast(contract as varchar) as contract,
        cast(cycle_date as date) as cycle_date,
        cast(seq as integer) as seq,
        cast(stage as varchar) as stage,
        cast(is_part as boolean) as is_part,
        cast(status as varchar) as status,
        cast(started_at as timestamp) as started_at,
        cast(wall_s as double) as wall_s,
        cast(rows as bigint) as n_rows,
        cast(bytes_written as bigint) as bytes_written,
        cast(peak_rss_mib as double) as peak_rss_mib
    from source

)

select * from renamed
