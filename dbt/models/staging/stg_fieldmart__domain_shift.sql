with source as (

    select * from {{ source('fieldmart', 'domain_shift') }}

),

renamed as (

    select
        cast(comparison as varchar) as comparison,
        cast(field as varchar) as field,
        cast(auc as double) as auc,
        cast(auc_lo as double) as auc_lo,
        cast(auc_hi as double) as auc_hi,
        cast(n as bigint) as n,
        cast(periods as integer) as periods,
        cast(reference_periods as integer) as reference_periods
    from source

)

select * from renamed
