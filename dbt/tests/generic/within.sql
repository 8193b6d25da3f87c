{# Each column, where it is not null, lies within its [low, high]; null for a bound: not checked. One test for a model:
   dbt takes longer to run a test than DuckDB to answer it. #}
{% test within(model, bounds) %}
select *
from (
    {%- for column, ends in bounds.items() %}
    {% if not loop.first %}union all by name {% endif -%}
    select '{{ column }}' as name_of_column, cast({{ column }} as double) as value_found
    from {{ model }}
    where
        false
        {%- if ends[0] is not none %} or {{ column }} < {{ ends[0] }}{% endif %}
        {%- if ends[1] is not none %} or {{ column }} > {{ ends[1] }}{% endif %}
    {%- endfor %}
)
{% endtest %}
