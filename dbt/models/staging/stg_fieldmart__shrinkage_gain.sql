with source as (

    select * from {{ source('fieldmart', 'shrinkage_gain') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(level as varchar) as level,
        cast(correction as varchar) as correction,
        cast(error as double) as error,
        cast(vs_none as double) as vs_none,
        cast(vs_none_lo as double) as vs_none_lo,
        cast(vs_none_hi as double) as vs_none_hi,
        cast(vs_raw as double) as vs_raw,
        cast(vs_raw_lo as double) as vs_raw_lo,
        cast(vs_raw_hi as double) as vs_raw_hi,
        cast(learned_periods as integer) as learned_periods,
        cast(n_periods as integer) as n_periods
    from source

)

select * from renamed
