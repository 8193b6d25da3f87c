with source as (

    select * from {{ source('fieldmart', 'auction_utility') }}

),

renamed as (

    select
        cast(policy as varchar) as policy,
        cast(model_id as varchar) as model_id,
        cast(kind as varchar) as kind,
        cast(beta as double) as beta,
        cast(won as bigint) as won,
        cast(utility as double) as utility,
        cast(delta as double) as delta,
        cast(delta_lo as double) as delta_lo,
        cast(delta_hi as double) as delta_hi,
        cast(n_periods as integer) as n_periods,
        cast(assumption as varchar) as assumption
    from source

)

select * from renamed
