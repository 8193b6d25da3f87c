with comparison as (

    select * from {{ ref('stg_fieldmart__incumbent_comparison') }}

),

scoring_cost as (

    select * from {{ ref('int_scoring_cost_summarized') }}

),

rates as (

    select * from {{ ref('stg_fieldmart__rates') }}

),

-- The incumbent's files were made on another night: both are priced by what scoring took tonight, without storage.
prices as (

    select
        scoring_cost.model_id,
        scoring_cost.score_cpu_s_per_1m / 3600 * rates.usd_per_cpu_hour
        + {{ usd_of_memory(
            'scoring_cost.score_peak_rss_mib', 'scoring_cost.score_wall_s_per_1m', 'rates.usd_per_gib_hour'
        ) }} as usd_per_1m
    from scoring_cost
    cross join rates

),

priced as (

    select
        comparison.*,
        challengers.usd_per_1m as challenger_usd_per_1m,
        incumbents.usd_per_1m as incumbent_usd_per_1m,
        challengers.usd_per_1m <= (1 - {{ var('margin_relative_cost') }}) * incumbents.usd_per_1m as is_cheaper
    from comparison
    left join prices as challengers on comparison.challenger_model_id = challengers.model_id
    left join prices as incumbents on comparison.incumbent_model_id = incumbents.model_id

),

judged as (

    select
        *,
        case when is_cheaper then 'non_inferiority' when not is_cheaper then 'superiority' end as needs,
        case when is_cheaper then margin when not is_cheaper then 0 end as allowed_delta,
        (delta_hi - delta_lo) / 2 as half_width,
        -- jobs/promotion.py says the same in Python
        case when is_cheaper then delta_hi <= margin when not is_cheaper then delta_hi < 0 end as is_earned
    from priced

),

final as (

    select
        challenger_model_id,
        challenger_k,
        incumbent_model_id,
        incumbent_algorithm,
        incumbent_k,
        incumbent_source,
        n,
        n_periods,
        challenger_logloss,
        incumbent_logloss,
        delta_logloss,
        delta_lo,
        delta_hi,
        delta_se,
        half_width,
        delta_lo_entity,
        delta_hi_entity,
        delta_logloss / nullif(incumbent_logloss, 0) as delta_relative,
        delta_lo / nullif(incumbent_logloss, 0) as delta_relative_lo,
        delta_hi / nullif(incumbent_logloss, 0) as delta_relative_hi,
        margin,
        challenger_usd_per_1m,
        incumbent_usd_per_1m,
        challenger_usd_per_1m / nullif(incumbent_usd_per_1m, 0) - 1 as cost_relative,
        is_cheaper,
        needs,
        allowed_delta,
        is_earned
    from judged

)

select * from final
