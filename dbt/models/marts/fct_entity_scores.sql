with scores as (

    select * from {{ ref('stg_fieldmart__scores') }}
    where
        rank_in_entity <= {{ var('top_n') }}
        or rank_in_candidate <= {{ var('top_n') }}

),

candidates as (

    select * from {{ ref('dim_candidate') }}

),

final as (

    select
        scores.entity_id,
        scores.candidate_id,
        candidates.label as candidate_label,
        scores.match_id,
        scores.p,
        scores.rank_in_entity,
        scores.rank_in_candidate,
        scores.rank_in_entity <= {{ var('top_n') }} as is_top_for_entity,
        scores.rank_in_candidate <= {{ var('top_n') }} as is_top_for_candidate,
        scores.oov_share,
        scores.model_id,
        scores.calibrator_id,
        scores.score_date,
        scores.data_through,
        scores.source as score_source
    from scores
    inner join candidates on scores.candidate_id = candidates.candidate_id

)

select * from final
