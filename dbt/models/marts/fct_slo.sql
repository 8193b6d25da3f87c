with objectives as (

    select
        *,
        list_position(['scores_ready', 'mart_readable', 'recovery_point', 'recovery_time'], slo) as seq
    from {{ ref('stg_fieldmart__slo_objectives') }}

),

-- What grows is told by drills alone: a restore is of whatever was lost. What failed has no value.
observations as (

    select
        *,
        value is not null and kind <> 'restore' as is_of_trend,
        row_number() over (partition by slo, value is not null and kind <> 'restore' order by observed_at desc) as age
    from {{ ref('int_slo_observations') }}

),

counted as (

    select
        slo,
        count(*) filter (where is_in_window) as observations,
        count(*) filter (where is_in_window and is_good) as good,
        count(*) filter (where not is_in_window) as previous_observations,
        count(*) filter (where not is_in_window and is_good) as previous_good,
        quantile_cont(value, 0.5) filter (where is_in_window) as value_p50,
        quantile_cont(value, 0.95) filter (where is_in_window) as value_p95,
        max(value) filter (where is_in_window) as value_max,
        max(observed_at) filter (where is_of_trend) as last_at,
        max(value) filter (where is_of_trend and age = 1) as last_value,
        quantile_cont(value, 0.5) filter (where is_of_trend and age between 2 and 6) as baseline_value
    from observations
    group by slo

),

compared as (

    select
        objectives.slo,
        cast(objectives.seq as integer) as seq,
        objectives.title,
        objectives.objective,
        objectives.threshold,
        objectives.unit,
        objectives.window_days,
        objectives.as_of,
        objectives.regression_alarm,
        coalesce(counted.observations, 0) as observations,
        coalesce(counted.good, 0) as good,
        counted.good / nullif(counted.observations, 0) as attained,
        counted.previous_good / nullif(counted.previous_observations, 0) as previous_attained,
        counted.value_p50,
        counted.value_p95,
        counted.value_max,
        counted.last_at,
        counted.last_value,
        counted.baseline_value,
        case
            when objectives.regression_alarm is not null
                then counted.last_value / nullif(counted.baseline_value, 0) - 1
        end as regression
    from objectives
    left join counted on objectives.slo = counted.slo

),

judged as (

    select
        *,
        observations - good as missed,
        -- 999 of 1,000 keep 99.9 % whatever their quotient is in binary
        case when observations > 0 then good >= objective * observations - 1e-9 end as is_met,
        case
            when observations = 0 then null
            when objective = 1 then cast(good = observations as integer)
            else round(1 - (observations - good) / (observations * (1 - objective)), 9)
        end as error_budget_left,
        coalesce(regression > regression_alarm, false) as is_regression
    from compared

),

final as (

    select
        slo,
        seq,
        title,
        objective,
        threshold,
        unit,
        window_days,
        as_of,
        observations,
        good,
        missed,
        attained,
        cast(error_budget_left as double) as error_budget_left,
        is_met,
        previous_attained,
        attained - previous_attained as attained_change,
        value_p50,
        value_p95,
        value_max,
        last_at,
        last_value,
        baseline_value,
        regression,
        regression_alarm,
        is_regression,
        coalesce(not is_met, false) or is_regression as is_alarm,
        case
            when observations = 0
                then format('{}: nothing was observed in the last {:d} days.', title, window_days)
            else format(
                '{}: {:,d} of {:,d} observations in the last {:d} days are good, {:.2f} % of {:.2f} % promised{}.',
                title, good, observations, window_days, 100 * attained, 100 * objective,
                case when is_met then '' else ': broken' end
            )
        end
        || case
            when is_regression
                then format(
                    ' The last took {:.1f} {}, {:.0f} % more than the {:.1f} {} before: an alarm.', last_value, unit,
                    100 * regression, baseline_value, unit
                )
            else ''
        end as sentence
    from judged

)

select * from final
