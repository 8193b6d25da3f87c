with source as (

    select * from {{ source('fieldmart', 'k_comparison') }}

),

renamed as (

    select
        cast(k as integer) as k,
        cast(model_id as varchar) as model_id,
        cast(best_k as integer) as best_k,
        cast(best_model_id as varchar) as best_model_id,
        cast(logloss as double) as logloss,
        cast(delta_logloss as double) as delta_logloss,
        cast(se_seed as double) as se_seed,
        cast(se_period as double) as se_period,
        cast(delta_lo as double) as delta_lo,
        cast(delta_hi as double) as delta_hi,
        cast(delta_lo_simultaneous as double) as delta_lo_simultaneous,
        cast(delta_hi_simultaneous as double) as delta_hi_simultaneous,
        cast(margin as double) as margin,
        cast(delta_lo_entity as double) as delta_lo_entity,
        cast(delta_hi_entity as double) as delta_hi_entity,
        cast(is_non_inferior as boolean) as is_non_inferior,
        cast(infeasible_reason as varchar) as infeasible_reason,
        cast(is_verdict as boolean) as is_verdict,
        cast(is_provisional as boolean) as is_provisional,
        cast(verdict_from as date) as verdict_from,
        cast(n_seeds as integer) as n_seeds,
        cast(n_periods as integer) as n_periods
    from source

)

select * from renamed
