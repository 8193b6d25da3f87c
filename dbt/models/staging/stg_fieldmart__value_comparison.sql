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
        cast(total_p5 as double) as total_p5,
        cast(total_p50 as double) as total_p50,
        cast(total_p95 as double) as total_p95,
        cast(delta_p5 as double) as delta_p5,
        cast(delta_p50 as double) as delta_p50,
        cast(delta_p95 as double) as delta_p95,
        cast(n_periods as integer) as n_periods,
        cast(n_clusters as integer) as n_clusters,
        cast(replicates as integer) as replicates,
        cast(assumption as varchar) as assumption
    from source

)

select * from renamed
