with reliability_curve as (

    select * from {{ ref('stg_fieldmart__reliability_curve') }}

),

models as (

    select * from {{ ref('dim_model') }}

),

comparison as (

    select * from {{ ref('stg_fieldmart__k_comparison') }}

),

final as (

    select
        reliability_curve.model_id,
        models.k,
        models.role,
        coalesce(comparison.is_verdict, false) as is_verdict,
        reliability_curve.point,
        reliability_curve.p,
        reliability_curve.observed_rate,
        reliability_curve.band_lo,
        reliability_curve.band_hi,
        reliability_curve.n,
        reliability_curve.observed_rate < reliability_curve.band_lo
        or reliability_curve.observed_rate > reliability_curve.band_hi as is_outside
    from reliability_curve
    inner join models on reliability_curve.model_id = models.model_id
    left join comparison on reliability_curve.model_id = comparison.model_id

)

select * from final
