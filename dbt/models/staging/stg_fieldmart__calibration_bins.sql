with source as (

    select * from {{ source('fieldmart', 'calibration_bins') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(bin as integer) as bin,
        cast(p_lo as double) as p_lo,
        cast(p_hi as double) as p_hi,
        cast(n as bigint) as n,
        cast(conversions as bigint) as conversions,
        cast(sum_p as double) as sum_p
    from source

)

select * from renamed
