{# The id of an entity as marts show it: as it is, or, with `hash_entities`, its HMAC-SHA256 under a secret salt, cut to
   24 hex digits (jobs/privacy.py, which gives every connection the two keys; without them the id is null). #}
{% macro entity_key(id) -%}
    {%- if var('hash_entities') -%}
        left(
            sha256(
                getvariable('entity_key_outer')
                || unhex(sha256(getvariable('entity_key_inner') || encode(cast({{ id }} as varchar))))
            ),
            24
        )
    {%- else -%}
        cast({{ id }} as varchar)
    {%- endif -%}
{%- endmacro %}

{# What joins an entity to its candidates, which is hashed as well where it is made of columns of the entity's id. #}
{% macro match_key(id) -%}
    {%- if var('hash_matches') -%} {{ entity_key(id) }} {%- else -%} cast({{ id }} as varchar) {%- endif -%}
{%- endmacro %}

{# Rows in the order of the hashes: facts come sorted by the id itself, and their order alone would tell whose a hash
   is. Without hashes it is left as it is: a sort of ten million rows takes half a minute. #}
{% macro ordered_by_hash(columns) -%}
    {%- if var('hash_entities') -%} order by {{ columns | join(', ') }} {%- endif -%}
{%- endmacro %}

{# Whether a group of `size` is folded into one named `n<K` (var k_anonymity): those below the floor are, and the next
   larger ones until the fold reaches the floor, or else what was folded would follow from the total. `tie` orders
   groups of one size. Who is counted by `size` can be in several groups where they `overlap`: sums of sizes say
   nothing then, and the fold reaches the floor with a group that has it alone. `left_over`: how much of the total is in
   no group; less than the floor must not be had by subtraction either. #}
{% macro is_folded(size, partition, tie, overlap=false, left_over='0') -%}
    {%- if var('k_anonymity') | int > 0 -%}
        (
            {{ size }} < {{ var('k_anonymity') }}
            or (
                (
                    min({{ size }}) over (partition by {{ partition }}) < {{ var('k_anonymity') }}
                    {%- if left_over != '0' %}
                        or ({{ left_over }} > 0 and {{ left_over }} < {{ var('k_anonymity') }})
                    {%- endif %}
                )
                and coalesce(
                    {{ 'max' if overlap else 'sum' }}({{ size }}) over (
                        partition by {{ partition }}
                        order by {{ size }}, {{ tie }}
                        rows between unbounded preceding and 1 preceding
                    ),
                    0
                ) < {{ var('k_anonymity') }}
            )
        )
    {%- else -%}
        false
    {%- endif -%}
{%- endmacro %}

{# The name of a group, or of what it is folded into. #}
{% macro folded_name(name) -%}
    case when is_folded then 'n<{{ var('k_anonymity') }}' else {{ name }} end
{%- endmacro %}

{# A ratio of a group, or the mean by `weight` of those that are folded. #}
{% macro folded_mean(ratio, weight, tie) -%}
    if(
        bool_or(is_folded),
        sum({{ ratio }} * {{ weight }} order by {{ tie }}) / nullif(sum({{ weight }} order by {{ tie }}), 0),
        any_value({{ ratio }})
    )
{%- endmacro %}
