with source as (

    select * from {{ source('fieldmart', 'leakage') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(audit as varchar) as audit,
        cast(subject as varchar) as subject,
        cast(value as double) as value,
        cast(value_lo as double) as value_lo,
        cast(value_hi as double) as value_hi,
        cast(allowed as double) as allowed,
        cast(passed as boolean) as passed,
        cast(why as varchar) as why
    from source

)

select * from renamed
