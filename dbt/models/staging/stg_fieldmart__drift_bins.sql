with source as (

    select * from {{ source('fieldmart', 'drift_bins') }}

),

renamed as (

    select
        cast(subject as varchar) as subject,
        cast(field as varchar) as field,
        cast(period as date) as period,
        cast(is_reference as boolean) as is_reference,
        cast(bin as varchar) as bin,
        cast(bin_order as integer) as bin_order,
        cast(n as bigint) as n
    from source

)

select * from renamed
