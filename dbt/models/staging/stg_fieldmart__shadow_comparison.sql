with source as (

    select * from {{ source('fieldmart', 'shadow_comparison') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(shadow_model_id as varchar) as shadow_model_id,
        cast(scope as varchar) as scope,
        cast(decile as integer) as decile,
        cast(pairs as bigint) as pairs,
        cast(mean_p as double) as mean_p,
        cast(mean_p_shadow as double) as mean_p_shadow,
        cast(correlation as double) as correlation,
        cast(mean_abs_difference as double) as mean_abs_difference,
        cast(top_n_overlap as double) as top_n_overlap
    from source

)

select * from renamed
