with source as (

    select * from {{ source('fieldmart', 'label_settling') }}

),

renamed as (

    select
        cast(period as date) as period,
        cast(exposures as bigint) as exposures,
        cast(immature as bigint) as immature,
        cast(conversions_first as bigint) as conversions_first,
        cast(conversions as bigint) as conversions,
        cast(conversions_late as bigint) as conversions_late,
        cast(expected as double) as expected,
        cast(expected_lo as double) as expected_lo,
        cast(expected_hi as double) as expected_hi
    from source

)

select * from renamed
