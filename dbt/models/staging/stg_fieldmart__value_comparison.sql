with source as (

    select * from {{ source('fieldmart', 'value_comparison') }}

),

renamed as (

    select
        cast(policy as varchar) as policy,
        cast(baseline as varchar) as baseline,
        cast(objective as varchar) as objective,
        cast(total as double) as total,
        cast(baseline_total as double) as baseline_total,
        cast(delta as double) as delta,
        cast(delta_lo as double) as delta_lo,
        cast(delta_hi as double) as delta_hi,
        cast(n_periods as integer) as n_periods,
        cast(assumption as varchar) as assumption
    from source

)

select * from renamed
