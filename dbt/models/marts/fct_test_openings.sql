with test_openings as (

    select * from {{ ref('stg_fieldmart__test_openings') }}

),

final as (

    select
        contract,
        cycle_date,
        test_from,
        test_through,
        opened_at,
        models as n_models,
        nth,
        opened_at = max(opened_at) over () as is_latest
    from test_openings

)

select * from final
