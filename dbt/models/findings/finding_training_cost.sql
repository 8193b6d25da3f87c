with stages as (

    select * from {{ ref('fct_training_cost') }}
    where role = 'candidate'

),

counts as (

    select
        count(distinct model_id) as n_models,
        max(n_partitions) as n_partitions,
        sum(cpu_s) as cpu_s,
        sum(jit_s) as jit_s,
        max(peak_rss_mib) as peak_rss_mib,
        count(*) filter (where is_skewed) as n_skewed,
        max(greatest(rows_max_over_median, wall_max_over_median)) as largest_ratio
    from stages

),

worst as (

    select
        label,
        seed,
        stage,
        n_partitions,
        slowest_partition,
        rows_max_over_median,
        wall_max_over_median
    from stages
    where is_skewed
    order by greatest(rows_max_over_median, wall_max_over_median) desc, model_id asc, stage asc
    limit 1

),

final as (

    select
        'training_cost' as page,
        case
            when counts.n_models = 0 then 'What training cost was not recorded.'
            else format(
                '{:d} candidates took {:.1f} CPU seconds to train, compiling ({:.1f} s) apart, with at most {:.0f} MiB'
                ' in one worker. ',
                counts.n_models, counts.cpu_s, counts.jit_s, counts.peak_rss_mib
            )
            || case
                when counts.n_skewed > 0
                    then format(
                        '{:d} {} skewed; most stage {} of {}, seed {:d}: partition {:d} of {:d} took {:.1f} times the'
                        ' seconds of the median{}.',
                        counts.n_skewed, case when counts.n_skewed = 1 then 'stage is' else 'stages are' end,
                        worst.stage, worst.label, worst.seed, worst.slowest_partition,
                        worst.n_partitions, worst.wall_max_over_median,
                        coalesce(format(', and the largest has {:.1f} times the rows', worst.rows_max_over_median), '')
                    )
                when counts.n_partitions = 1
                    then 'Each was trained in one partition, so there is no skew between partitions.'
                else format(
                    'No partition has more than {:.1f} times the rows or seconds of the median.',
                    counts.largest_ratio
                )
            end
        end as sentence
    from counts
    left join worst on true

)

select * from final
