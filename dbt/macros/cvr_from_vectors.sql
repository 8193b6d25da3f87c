{# Calibrated p of pairs from the exported vectors (docs/vectors.md): one row per pair with entity_id, match_id,
   candidate_id, raw_score (the logit) and p. A select that can stand in a common table expression of its own.

   vectors: SQL expression of the folder of the vectors, for example "'warehouse/vectors/promo'"
   pairs: a relation with the columns entity_id, match_id and candidate_id, each pair once; pairs whose entity or
       candidate the vectors do not have are left out #}
{% macro cvr_from_vectors(vectors, pairs) -%}
with entities as (

    select * from read_parquet({{ vectors }} || '/entity_vectors/*.parquet')

),

candidates as (

    select * from read_parquet({{ vectors }} || '/candidate_vectors/*.parquet')

),

entries as (

    select * from read_parquet({{ vectors }} || '/pair_entries/*.parquet')

),

features as (

    select * from read_parquet({{ vectors }} || '/feature_vectors/*.parquet')

),

calibrator as (

    select * from read_parquet({{ vectors }} || '/calibrator/*.parquet')

),

-- Of each pair: the pair fields in which it has another feature than the default.
known as (

    select
        asked.entity_id,
        asked.match_id,
        asked.candidate_id,
        features.field,
        features.to_pair,
        features.constant
        + list_inner_product(
            entities.to_pairs[
                features.field * len(features.to_entity) + 1:(features.field + 1) * len(features.to_entity)
            ],
            features.to_entity
        )
        + list_inner_product(
            candidates.to_pairs[
                features.field * len(features.to_candidate) + 1:(features.field + 1) * len(features.to_candidate)
            ],
            features.to_candidate
        ) as term
    from {{ pairs }} as asked
    inner join entities on asked.entity_id = entities.entity_id and asked.match_id = entities.match_id
    inner join candidates on asked.candidate_id = candidates.candidate_id and asked.match_id = candidates.match_id
    inner join entries
        on asked.entity_id = entries.entity_id
        and asked.match_id = entries.match_id
        and candidates.keys[entries.field + 1] = entries.key
    inner join features on entries.field = features.field and entries.feature = features.feature

),

-- Two such fields of a pair meet each other: each has a piece of to_pair for every pair field.
terms as (

    select
        entity_id,
        match_id,
        candidate_id,
        term
    from known
    union all
    select
        one.entity_id,
        one.match_id,
        one.candidate_id,
        list_inner_product(
            one.to_pair[other.field * pieces.k + 1:(other.field + 1) * pieces.k],
            other.to_pair[one.field * pieces.k + 1:(one.field + 1) * pieces.k]
        ) as term
    from known as one
    inner join known as other
        on one.entity_id = other.entity_id
        and one.match_id = other.match_id
        and one.candidate_id = other.candidate_id
        and one.field < other.field
    cross join (select max(len(to_pair)) // (max(field) + 1) as k from features) as pieces

),

of_pair_fields as (

    select
        entity_id,
        match_id,
        candidate_id,
        sum(term) as term
    from terms
    group by all

),

logits as (

    select
        asked.entity_id,
        asked.match_id,
        asked.candidate_id,
        entities.constant
        + candidates.constant
        + list_inner_product(entities.vector, candidates.vector)
        + coalesce(of_pair_fields.term, 0) as raw_score
    from {{ pairs }} as asked
    inner join entities on asked.entity_id = entities.entity_id and asked.match_id = entities.match_id
    inner join candidates on asked.candidate_id = candidates.candidate_id and asked.match_id = candidates.match_id
    left join of_pair_fields
        on asked.entity_id = of_pair_fields.entity_id
        and asked.match_id = of_pair_fields.match_id
        and asked.candidate_id = of_pair_fields.candidate_id

)

select
    logits.entity_id,
    logits.match_id,
    logits.candidate_id,
    logits.raw_score,
    1 / (1 + exp(-(calibrator.slope * logits.raw_score + calibrator.intercept))) as p
from logits
cross join calibrator
{%- endmacro %}
