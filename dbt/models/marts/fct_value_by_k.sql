with by_k as (

    select * from {{ ref('stg_fieldmart__value_by_k') }}

),

comparison as (

    select * from {{ ref('stg_fieldmart__k_comparison') }}

),

objectives as (

    select * from {{ ref('objectives') }}

),

ranked as (

    select
        by_k.*,
        coalesce(comparison.is_verdict, false) as is_verdict,
        rank() over (partition by by_k.objective order by by_k.total desc) as rank_by_objective,
        rank() over (partition by by_k.objective order by comparison.logloss asc) as rank_by_logloss
    from by_k
    left join comparison on by_k.model_id = comparison.model_id

),

-- Spearman's correlation is that of the ranks; rounded, since the same order is 1 and not 0.9999999999999998
correlated as (

    select
        ranked.objective,
        round(corr(ranked.rank_by_objective, profit.rank_by_objective), 12) as rank_correlation_with_profit,
        round(corr(ranked.rank_by_objective, ranked.rank_by_logloss), 12) as rank_correlation_with_logloss
    from ranked
    left join ranked as profit on ranked.model_id = profit.model_id and profit.objective = 'profit'
    group by ranked.objective

),

final as (

    select
        ranked.model_id,
        ranked.k,
        ranked.is_verdict,
        ranked.objective,
        objectives.unit,
        ranked.total,
        cast(ranked.rank_by_objective as integer) as rank_by_objective,
        cast(ranked.rank_by_logloss as integer) as rank_by_logloss,
        ranked.delta,
        ranked.delta_lo,
        ranked.delta_hi,
        coalesce(ranked.delta_lo > 0 or ranked.delta_hi < 0, false) as is_distinct,
        if(
            isnan(correlated.rank_correlation_with_profit), null, correlated.rank_correlation_with_profit
        ) as rank_correlation_with_profit,
        if(
            isnan(correlated.rank_correlation_with_logloss), null, correlated.rank_correlation_with_logloss
        ) as rank_correlation_with_logloss,
        ranked.n_periods,
        ranked.assumption
    from ranked
    inner join correlated on ranked.objective = correlated.objective
    left join objectives on ranked.objective = objectives.objective

)

select * from final
