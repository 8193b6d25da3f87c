with source as (

    select * from {{ source('fieldmart', 'lever_gain') }}

),

renamed as (

    select
        cast(lever as varchar) as lever,
        cast(setting as varchar) as setting,
        cast(k as integer) as k,
        cast(delta_logloss_relative as double) as delta_logloss_relative,
        cast(delta_lo as double) as delta_lo,
        cast(delta_hi as double) as delta_hi,
        cast(cpu_s as double) as cpu_s,
        cast(cpu_ratio as double) as cpu_ratio,
        cast(artifact_bytes as bigint) as artifact_bytes,
        cast(n_folds as integer) as n_folds,
        cast(n_periods as integer) as n_periods,
        cast(n_seeds as integer) as n_seeds,
        cast(is_reference as boolean) as is_reference
    from source

)

select * from renamed
