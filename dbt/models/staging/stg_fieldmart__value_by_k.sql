with source as (

    select * from {{ source('fieldmart', 'value_by_k') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(k as integer) as k,
        cast(objective as varchar) as objective,
        cast(total as double) as total,
        cast(delta as double) as delta,
        cast(delta_lo as double) as delta_lo,
        cast(delta_hi as double) as delta_hi,
        cast(n_periods as integer) as n_periods,
        cast(assumption as varchar) as assumption
    from source

)

select * from renamed
