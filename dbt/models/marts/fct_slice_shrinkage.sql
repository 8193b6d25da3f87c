with slice_shrinkage as (

    select * from {{ ref('int_values_folded') }}

),

models as (

    select * from {{ ref('dim_model') }}

),

comparison as (

    select * from {{ ref('stg_fieldmart__k_comparison') }}

),

final as (

    select
        slice_shrinkage.model_id,
        models.k,
        models.role,
        coalesce(comparison.is_verdict, false) as is_verdict,
        slice_shrinkage.level,
        slice_shrinkage.depth,
        slice_shrinkage.value,
        slice_shrinkage.is_unseen,
        slice_shrinkage.n,
        slice_shrinkage.conversions,
        slice_shrinkage.sum_p,
        slice_shrinkage.conversions / nullif(slice_shrinkage.n, 0) as observed_rate,
        slice_shrinkage.sum_p / nullif(slice_shrinkage.n, 0) as mean_p,
        slice_shrinkage.raw_ratio,
        slice_shrinkage.shrunk_ratio,
        slice_shrinkage.weight,
        slice_shrinkage.parent_ratio,
        slice_shrinkage.strength,
        (slice_shrinkage.shrunk_ratio - 1) * slice_shrinkage.sum_p as moved_conversions,
        cast(
            row_number() over (
                partition by slice_shrinkage.model_id, slice_shrinkage.depth
                order by abs((slice_shrinkage.shrunk_ratio - 1) * slice_shrinkage.sum_p) desc, slice_shrinkage.value asc
            ) as integer
        ) as moved_rank
    from slice_shrinkage
    inner join models on slice_shrinkage.model_id = models.model_id
    left join comparison on slice_shrinkage.model_id = comparison.model_id

)

select * from final
