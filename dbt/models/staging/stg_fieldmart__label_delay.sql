with source as (

    select * from {{ source('fieldmart', 'label_delay') }}

),

renamed as (

    select
        cast(grp as varchar) as grp,
        cast(delay_days as integer) as delay_days,
        cast(at_risk as bigint) as at_risk,
        cast(events as bigint) as events,
        cast(converted as double) as converted,
        cast(converted_lo as double) as converted_lo,
        cast(converted_hi as double) as converted_hi,
        cast(completeness as double) as completeness,
        cast(completeness_lo as double) as completeness_lo,
        cast(completeness_hi as double) as completeness_hi
    from source

)

select * from renamed
