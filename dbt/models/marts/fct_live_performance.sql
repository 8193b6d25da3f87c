with live as (

    select * from {{ ref('stg_fieldmart__live_performance') }}

),

-- How much more than independent exposures the entities of earlier final periods varied; never less.
dispersed as (

    select
        *,
        greatest(coalesce(
            sum(entity_sq_conversions) filter (where is_mature) over earlier
            / nullif(sum(var_conversions) filter (where is_mature) over earlier, 0),
            1
        ), 1) as dispersion,
        greatest(coalesce(
            sum(entity_sq_logloss) filter (where is_mature) over earlier
            / nullif(sum(var_logloss) filter (where is_mature) over earlier, 0),
            1
        ), 1) as dispersion_logloss,
        coalesce(sum(var_conversions) filter (where is_mature) over earlier, 0) > 0 as is_dispersion_known,
        conversions / nullif(n, 0) as rate
    from live
    window earlier as (partition by contract order by period rows between unbounded preceding and 1 preceding)

),

-- 1.959964: 97.5 % point of the normal distribution. Half a conversion more: counts are whole.
bounded as (

    select
        *,
        1.959964 * sqrt(dispersion * var_conversions) + 0.5 as half_width,
        1.959964 * sqrt(dispersion_logloss * var_logloss) as half_width_logloss
    from dispersed

),

measured as (

    select
        contract,
        period,
        release_id as served_release_id,
        model_id,
        score_source,
        score_date,
        score_date < period as is_stale,
        exposures,
        n,
        n / nullif(exposures, 0) as coverage,
        entities,
        sum_p as expected_conversions,
        greatest(sum_p - half_width, 0) as expected_lo,
        least(sum_p + half_width, n) as expected_hi,
        dispersion,
        is_dispersion_known,
        sum_entropy / nullif(n, 0) as estimated_logloss,
        greatest(sum_entropy - half_width_logloss, 0) / nullif(n, 0) as estimated_logloss_lo,
        (sum_entropy + half_width_logloss) / nullif(n, 0) as estimated_logloss_hi,
        dispersion_logloss,
        is_mature,
        conversions,
        rate as observed_rate,
        case when is_mature then sum_p / nullif(conversions, 0) end as calibration_ratio,
        case when is_mature then sum_logloss / nullif(n, 0) end as realised_logloss,
        case
            when not is_mature or n = 0 then null
            when conversions = 0 or conversions = n then 0
            else -rate * ln(rate) - (1 - rate) * ln(1 - rate)
        end as base_rate_logloss
    from bounded

),

final as (

    select
        contract,
        period,
        served_release_id,
        model_id,
        score_source,
        score_date,
        is_stale,
        exposures,
        n,
        coverage,
        entities,
        expected_conversions,
        expected_lo,
        expected_hi,
        dispersion,
        is_dispersion_known,
        estimated_logloss,
        estimated_logloss_lo,
        estimated_logloss_hi,
        dispersion_logloss,
        is_mature,
        conversions,
        observed_rate,
        calibration_ratio,
        realised_logloss,
        cast(base_rate_logloss as double) as base_rate_logloss,
        realised_logloss - estimated_logloss as estimate_error,
        case when is_mature and n > 0 then conversions between expected_lo and expected_hi end as is_inside,
        case
            when is_mature and n > 0 then realised_logloss between estimated_logloss_lo and estimated_logloss_hi
        end as is_logloss_inside,
        row_number() over (partition by contract order by period desc) = 1 as is_latest
    from measured

)

select * from final
