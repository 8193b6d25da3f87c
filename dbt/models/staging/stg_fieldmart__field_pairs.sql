with source as (

    select * from {{ source('fieldmart', 'field_pairs') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(k as integer) as k,
        cast(field_a as varchar) as field_a,
        cast(field_b as varchar) as field_b,
        cast(share as double) as share,
        cast(variance as double) as variance,
        cast(mean_abs as double) as mean_abs,
        cast(logit_variance as double) as logit_variance,
        cast(n as bigint) as n
    from source

)

select * from renamed
