with training_cost as (

    select * from {{ ref('stg_fieldmart__training_cost') }}

),

models as (

    select * from {{ ref('dim_model') }}

),

per_stage as (

    select
        model_id,
        stage,
        cast(count(*) as integer) as n_partitions,
        cast(sum(n_rows) as bigint) as n_rows,
        max(wall_s) as slowest_wall_s,
        median(wall_s) as median_wall_s,
        sum(cpu_s order by partition) as cpu_s,
        sum(jit_s order by partition) as jit_s,
        max(peak_rss_mib) as peak_rss_mib,
        cast(sum(bytes_read) as bigint) as bytes_read,
        max(artifact_bytes) as artifact_bytes,
        max(n_rows) / nullif(median(n_rows), 0) as rows_max_over_median,
        max(wall_s) / nullif(median(wall_s), 0) as wall_max_over_median,
        arg_max(partition, wall_s) as slowest_partition
    from training_cost
    group by model_id, stage

),

final as (

    select
        per_stage.model_id,
        models.algorithm,
        models.label,
        models.k,
        models.seed,
        models.is_shipping_seed,
        models.role,
        models.strategy,
        per_stage.stage,
        per_stage.n_partitions,
        per_stage.n_rows,
        per_stage.slowest_wall_s,
        per_stage.median_wall_s,
        per_stage.cpu_s,
        per_stage.cpu_s / nullif(sum(per_stage.cpu_s) over (partition by per_stage.model_id), 0) as share_of_cpu,
        per_stage.jit_s,
        per_stage.peak_rss_mib,
        per_stage.bytes_read,
        per_stage.artifact_bytes,
        per_stage.n_rows / nullif(per_stage.slowest_wall_s, 0) as rows_per_s,
        per_stage.rows_max_over_median,
        per_stage.wall_max_over_median,
        per_stage.slowest_partition,
        coalesce(per_stage.rows_max_over_median > {{ var('skew_alarm') }}, false)
        or coalesce(per_stage.wall_max_over_median > {{ var('skew_alarm') }}, false) as is_skewed
    from per_stage
    inner join models on per_stage.model_id = models.model_id

)

select * from final
