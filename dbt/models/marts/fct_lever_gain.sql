with lever_gain as (

    select * from {{ ref('stg_fieldmart__lever_gain') }}

),

judged as (

    select
        *,
        not is_reference and coalesce(delta_hi < 0, false) as is_helpful,
        not is_reference and coalesce(delta_lo > 0, false) as is_harmful
    from lever_gain

),

final as (

    select
        lever,
        setting,
        lever || ': ' || setting as label,
        k,
        is_reference,
        delta_logloss_relative,
        delta_lo,
        delta_hi,
        is_helpful,
        is_harmful,
        cpu_s,
        cpu_ratio,
        coalesce(is_helpful and row_number() over (
            partition by is_helpful
            order by cpu_ratio asc nulls last, delta_logloss_relative asc, lever asc, setting asc, k asc
        ) = 1, false) as is_cheapest_that_helps,
        artifact_bytes / 1024.0 ^ 2 as artifact_mib,
        n_folds,
        n_periods,
        n_seeds
    from judged

)

select * from final
