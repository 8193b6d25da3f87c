with source as (

    select * from {{ source('fieldmart', 'operations') }}

),

renamed as (

    select
        cast(happened_at as timestamp) as happened_at,
        cast(kind as varchar) as kind,
        cast(ok as boolean) as ok,
        cast(seconds as double) as seconds,
        cast(bytes as bigint) as bytes,
        cast(rpo_s as double) as rpo_s,
        cast(detail as varchar) as detail
    from source

)

select * from renamed
