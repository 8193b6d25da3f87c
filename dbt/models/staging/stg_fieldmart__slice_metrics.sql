with source as (

    select * from {{ source('fieldmart', 'slice_metrics') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(slice_type as varchar) as slice_type,
        -- rows that no value was known for are a slice as well
        coalesce(cast(slice_value as varchar), '(unknown)') as slice_value,
        cast(entities as bigint) as entities,
        cast(n as bigint) as n,
        cast(conversions as bigint) as conversions,
        cast(sum_p as double) as sum_p,
        cast(sum_logloss as double) as sum_logloss,
        cast(calibration_ratio_lo as double) as calibration_ratio_lo,
        cast(calibration_ratio_hi as double) as calibration_ratio_hi,
        cast(n_periods as integer) as n_periods,
        cast(p_value as double) as p_value,
        cast(p_adjusted as double) as p_adjusted,
        cast(min_n as bigint) as min_n
    from source

)

select * from renamed
