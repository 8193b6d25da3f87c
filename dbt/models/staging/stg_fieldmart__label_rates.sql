with source as (

    select * from {{ source('fieldmart', 'label_rates') }}

),

renamed as (

    select
        cast(period as date) as period,
        cast(split as varchar) as split,
        cast(exposures as bigint) as exposures,
        cast(conversions as bigint) as conversions,
        cast(conversions_first as bigint) as conversions_first,
        cast(conversions_former as bigint) as conversions_former,
        cast(is_mature as boolean) as is_mature
    from source

)

select * from renamed
