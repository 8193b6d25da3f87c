with sensitivity as (

    select * from {{ ref('stg_fieldmart__value_sensitivity') }}

),

final as (

    select
        baseline,
        margin_rate,
        contact_cost,
        is_assumed,
        delta,
        delta_lo,
        delta_hi,
        case
            when delta_lo > 0 then 'gain'
            when delta_hi < 0 then 'loss'
            else 'open'
        end as outcome,
        break_even_margin,
        break_even_contact_cost,
        n_periods,
        assumption
    from sensitivity

)

select * from final
