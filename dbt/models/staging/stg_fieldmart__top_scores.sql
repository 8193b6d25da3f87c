with source as (

    select * from {{ source('fieldmart', 'top_scores') }}

),

renamed as (

    select
        {{ entity_key('entity_id') }} as entity_id,
        cast(candidate_id as varchar) as candidate_id,
        {{ match_key('match_id') }} as match_id,
        cast(p as double) as p,
        cast(raw_score as double) as raw_score,
        cast(rank_in_entity as integer) as rank_in_entity,
        cast(oov_share as double) as oov_share,
        cast(model_id as varchar) as model_id,
        cast(calibrator_id as varchar) as calibrator_id,
        cast(score_date as date) as score_date,
        cast(scored_at as timestamp) as scored_at,
        cast(data_through as timestamp) as data_through,
        cast(source as varchar) as source,
        cast(rank_in_candidate as integer) as rank_in_candidate
    from source

),

-- Equal scores of a candidate are ranked in the facts by the entity's id: with hashes that order would tell whose they
-- are, so among themselves they are ranked by the hash.
final as (

    {% if var('hash_entities') -%}
        select *
        from renamed
        where rank_in_candidate is null
        union all
        select
            * replace (
                cast(
                    min(rank_in_candidate) over (partition by candidate_id, raw_score)
                    + row_number() over (partition by candidate_id, raw_score order by entity_id, match_id)
                    - 1 as integer
                ) as rank_in_candidate
            )
        from renamed
        where rank_in_candidate is not null
    {%- else -%}
        select * from renamed
    {%- endif %}

)

select * from final
