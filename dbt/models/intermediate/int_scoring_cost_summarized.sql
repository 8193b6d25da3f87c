with scoring_cost as (

    select * from {{ ref('stg_fieldmart__scoring_cost') }}

),

per_repeat as (

    select
        *,
        n_rows / nullif(wall_s, 0) as rows_per_s
    from scoring_cost

),

summarized as (

    select
        model_id,
        count(*) as score_repeats,
        median(rows_per_s) as score_rows_per_s,
        stddev_samp(rows_per_s order by repeat) / avg(rows_per_s order by repeat) as score_rows_per_s_cv,
        median(cpu_s / nullif(n_rows, 0)) * 1e6 as score_cpu_s_per_1m,
        median(wall_s / nullif(n_rows, 0)) * 1e6 as score_wall_s_per_1m,
        max(peak_rss_mib) as score_peak_rss_mib
    from per_repeat
    group by model_id

)

select * from summarized
