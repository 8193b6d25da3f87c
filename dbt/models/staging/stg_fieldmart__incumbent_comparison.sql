with source as (

    select * from {{ source('fieldmart', 'incumbent_comparison') }}

),

renamed as (

    select
        cast(challenger_model_id as varchar) as challenger_model_id,
        cast(challenger_k as integer) as challenger_k,
        cast(incumbent_model_id as varchar) as incumbent_model_id,
        cast(incumbent_algorithm as varchar) as incumbent_algorithm,
        cast(incumbent_k as integer) as incumbent_k,
        cast(incumbent_source as varchar) as incumbent_source,
        cast(challenger_logloss as double) as challenger_logloss,
        cast(incumbent_logloss as double) as incumbent_logloss,
        cast(delta_logloss as double) as delta_logloss,
        cast(delta_lo as double) as delta_lo,
        cast(delta_hi as double) as delta_hi,
        cast(delta_se as double) as delta_se,
        cast(delta_lo_entity as double) as delta_lo_entity,
        cast(delta_hi_entity as double) as delta_hi_entity,
        cast(margin as double) as margin,
        cast(n as bigint) as n,
        cast(n_periods as integer) as n_periods
    from source

)

select * from renamed
