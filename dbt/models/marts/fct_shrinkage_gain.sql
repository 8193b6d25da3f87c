with shrinkage_gain as (

    select * from {{ ref('stg_fieldmart__shrinkage_gain') }}

),

models as (

    select * from {{ ref('dim_model') }}

),

comparison as (

    select * from {{ ref('stg_fieldmart__k_comparison') }}

),

final as (

    select
        shrinkage_gain.model_id,
        models.k,
        models.role,
        coalesce(comparison.is_verdict, false) as is_verdict,
        shrinkage_gain.level,
        shrinkage_gain.correction,
        shrinkage_gain.error,
        shrinkage_gain.vs_none,
        shrinkage_gain.vs_none_lo,
        shrinkage_gain.vs_none_hi,
        shrinkage_gain.vs_raw,
        shrinkage_gain.vs_raw_lo,
        shrinkage_gain.vs_raw_hi,
        coalesce(shrinkage_gain.vs_none_hi < 0, false) as beats_none,
        coalesce(shrinkage_gain.vs_none_lo > 0, false) as loses_to_none,
        coalesce(shrinkage_gain.vs_raw_hi < 0, false) as beats_raw,
        shrinkage_gain.learned_periods,
        shrinkage_gain.n_periods
    from shrinkage_gain
    inner join models on shrinkage_gain.model_id = models.model_id
    left join comparison on shrinkage_gain.model_id = comparison.model_id

)

select * from final
