with candidates as (

    select
        model_id,
        label,
        k,
        is_baseline,
        is_verdict
    from {{ ref('fct_accuracy_cost_by_k') }}

),

prices as (

    select * from {{ ref('int_models_priced') }}

),

parts as (

    unpivot (
        select
            model_id,
            usd_per_1m_scores,
            usd_cpu_per_1m as usd_per_cpu_hour,
            usd_memory_per_1m as usd_per_gib_hour,
            usd_storage_per_1m as usd_per_gib_month
        from prices
    ) on usd_per_cpu_hour, usd_per_gib_hour, usd_per_gib_month into name rate value usd_by_rate

),

final as (

    select
        candidates.model_id,
        candidates.label,
        candidates.k,
        candidates.is_baseline,
        candidates.is_verdict,
        parts.rate,
        parts.usd_per_1m_scores,
        parts.usd_by_rate,
        parts.usd_by_rate / nullif(parts.usd_per_1m_scores, 0) as usd_share,
        parts.usd_per_1m_scores - parts.usd_by_rate / 2 as usd_if_halved,
        parts.usd_per_1m_scores + parts.usd_by_rate as usd_if_doubled
    from candidates
    inner join parts on candidates.model_id = parts.model_id

)

select * from final
