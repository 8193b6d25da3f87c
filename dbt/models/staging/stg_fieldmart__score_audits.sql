with source as (

    select * from {{ source('fieldmart', 'score_audits') }}

),

renamed as (

    select
        cast(attempt as integer) as attempt,
        cast(model_id as varchar) as model_id,
        cast(source as varchar) as source,
        cast(audit as varchar) as audit,
        cast(value as double) as value,
        cast(low as double) as low,
        cast(high as double) as high,
        cast(passed as boolean) as passed,
        cast(why as varchar) as why
    from source

)

select * from renamed
