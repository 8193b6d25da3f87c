with audits as (

    select * from {{ ref('stg_fieldmart__score_audits') }}

),

scoring as (

    select * from {{ ref('stg_fieldmart__scoring') }}

),

distances as (

    select
        *,
        {{ relative_distance('value', 'low') }} as above_low,
        0 - {{ relative_distance('value', 'high') }} as below_high
    from audits

),

final as (

    select
        distances.attempt,
        distances.audit,
        distances.model_id,
        distances.source as score_source,
        coalesce(
            distances.attempt = max(distances.attempt) over ()
            and distances.model_id = scoring.model_id
            and distances.source = scoring.source,
            false
        ) as is_of_served_scores,
        distances.value,
        distances.low,
        distances.high,
        -- least() passes over null: of an open end there is no distance
        least(distances.above_low, distances.below_high) as headroom,
        distances.passed,
        distances.why
    from distances
    cross join scoring

)

select * from final
