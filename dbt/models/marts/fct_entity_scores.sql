with scores as (

    select * from {{ ref('stg_fieldmart__top_scores') }}

),

candidates as (

    select * from {{ ref('dim_candidate') }}

),

release as (

    select * from {{ ref('dim_release') }}

),

final as (

    select
        scores.entity_id,
        scores.candidate_id,
        candidates.label as candidate_label,
        scores.match_id,
        scores.p,
        scores.raw_score,
        scores.rank_in_entity,
        scores.rank_in_candidate,
        scores.rank_in_entity is not null as is_top_for_entity,
        scores.rank_in_candidate is not null as is_top_for_candidate,
        scores.oov_share,
        -- Rounded: in single precision a tenth is a little more than a tenth.
        case
            when round(scores.oov_share, 6) <= {{ var('oov_share_high_confidence') }} then 'high'
            when round(scores.oov_share, 6) <= {{ var('oov_share_low_confidence') }} then 'medium'
            else 'low'
        end as confidence_band,
        scores.model_id,
        scores.calibrator_id,
        scores.score_date,
        scores.scored_at,
        scores.data_through,
        {{ hours_between('scores.data_through', 'release.data_through') }} as staleness_hours,
        {{ hours_between('scores.data_through', 'scores.scored_at') }} as data_age_when_scored_hours,
        scores.source as score_source,
        scores.source = 'stale' as is_stale
    from scores
    inner join candidates on scores.candidate_id = candidates.candidate_id
    cross join release

)

select * from final
{{ ordered_by_hash(['entity_id', 'candidate_id']) }}
