with source as (

    select * from {{ source('fieldmart', 'period_metrics') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(split as varchar) as split,
        cast(period as date) as period,
        cast(n as bigint) as n,
        cast(conversions as bigint) as conversions,
        cast(sum_p as double) as sum_p,
        cast(sum_logloss as double) as sum_logloss,
        cast(sum_squared_error as double) as sum_squared_error,
        cast(auc as double) as auc,
        cast(pr_auc as double) as pr_auc,
        cast(top_n as integer) as top_n,
        cast(sum_ndcg as double) as sum_ndcg,
        cast(sum_map as double) as sum_map,
        cast(ranked_groups as bigint) as ranked_groups,
        cast(captured as bigint) as captured,
        cast(rankable as bigint) as rankable
    from source

)

select * from renamed
