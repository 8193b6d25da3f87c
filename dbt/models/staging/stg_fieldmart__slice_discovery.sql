with source as (

    select * from {{ source('fieldmart', 'slice_discovery') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(slice_a as varchar) as slice_a,
        cast(slice_b as varchar) as slice_b,
        cast(search_n as bigint) as search_n,
        cast(search_conversions as bigint) as search_conversions,
        cast(search_sum_p as double) as search_sum_p,
        cast(confirm_n as bigint) as confirm_n,
        cast(confirm_conversions as bigint) as confirm_conversions,
        cast(confirm_sum_p as double) as confirm_sum_p,
        cast(search_p_adjusted as double) as search_p_adjusted,
        cast(confirm_p_adjusted as double) as confirm_p_adjusted,
        cast(is_confirmed as boolean) as is_confirmed,
        cast(n_searched as integer) as n_searched
    from source

)

select * from renamed
