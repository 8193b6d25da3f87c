with source as (

    select * from {{ source('fieldmart', 'reliability_curve') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(point as integer) as point,
        cast(p as double) as p,
        cast(observed_rate as double) as observed_rate,
        cast(band_lo as double) as band_lo,
        cast(band_hi as double) as band_hi,
        cast(n as bigint) as n
    from source

)

select * from renamed
