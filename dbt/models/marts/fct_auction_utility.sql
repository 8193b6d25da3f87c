with utility as (

    select * from {{ ref('stg_fieldmart__auction_utility') }}

),

final as (

    select
        policy,
        model_id,
        kind || coalesce(format(', beta = {:.0f}', beta), '') as utility_name,
        kind,
        beta,
        won,
        utility,
        delta,
        delta_lo,
        delta_hi,
        delta / nullif(abs(utility - delta), 0) as lift,
        coalesce(delta_lo > 0, false) as is_superior,
        n_periods,
        assumption
    from utility

)

select * from final
