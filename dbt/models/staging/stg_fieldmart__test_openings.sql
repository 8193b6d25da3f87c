with source as (

    select * from {{ source('fieldmart', 'test_openings') }}

),

renamed as (

    select
        cast(contract as varchar) as contract,
        cast(cycle_date as date) as cycle_date,
        cast(test_from as date) as test_from,
        cast(test_through as date) as test_through,
        cast(opened_at as timestamp) as opened_at,
        cast(models as integer) as models,
        cast(nth as integer) as nth
    from source

)

select * from renamed
