with source as (

    select * from {{ source('fieldmart', 'rates') }}

),

renamed as (

    select
        cast(usd_per_cpu_hour as double) as usd_per_cpu_hour,
        cast(usd_per_gib_hour as double) as usd_per_gib_hour,
        cast(usd_per_gib_month as double) as usd_per_gib_month,
        cast(rates_sha as varchar) as rates_sha
    from source

)

select * from renamed
