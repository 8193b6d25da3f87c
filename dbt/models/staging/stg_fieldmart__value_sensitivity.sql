with source as (

    select * from {{ source('fieldmart', 'value_sensitivity') }}

),

renamed as (

    select
        cast(baseline as varchar) as baseline,
        cast(margin_rate as double) as margin_rate,
        cast(contact_cost as double) as contact_cost,
        cast(delta as double) as delta,
        cast(delta_lo as double) as delta_lo,
        cast(delta_hi as double) as delta_hi,
        cast(break_even_margin as double) as break_even_margin,
        cast(break_even_contact_cost as double) as break_even_contact_cost,
        cast(is_assumed as boolean) as is_assumed,
        cast(n_periods as integer) as n_periods,
        cast(assumption as varchar) as assumption
    from source

)

select * from renamed
