with comparison as (

    select * from {{ ref('stg_fieldmart__shadow_comparison') }}

),

final as (

    select
        model_id,
        shadow_model_id,
        cast(coalesce(decile, 0) as integer) as seq,
        scope,
        decile,
        pairs,
        mean_p,
        mean_p_shadow,
        mean_p_shadow / nullif(mean_p, 0) as mean_p_ratio,
        correlation,
        mean_abs_difference,
        top_n_overlap
    from comparison

)

select * from final
