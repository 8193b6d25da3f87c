{# A build fills a file that nobody reads yet, so nothing has to be kept readable while it is replaced: dbt's way of a
   second name, a swap and a backup, with a look at the columns for their comments, costs more than the models do.
   Comments come with the model, in one statement. #}
{% macro made_in_place(kind, create) -%}
    {%- set relation = this.incorporate(type=kind) -%}
    {%- set existing = load_cached_relation(this) -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- call statement('main') %}
        {%- if existing is not none %}
            drop {{ existing.type }} if exists {{ relation }};
        {%- endif %}
        {{ create(relation) }}
        {%- if config.persist_relation_docs() and model.description %}
            {{ alter_relation_comment(relation, model.description) }}
        {%- endif %}
        {%- if config.persist_column_docs() %}
            {%- for column in model.columns.values() if column.description %}
                comment on column {{ relation }}.{{ column.name }} is {{ duckdb_escape_comment(column.description) }};
            {%- endfor %}
        {%- endif %}
    {%- endcall -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [relation]}) }}
{%- endmacro %}

{% macro table_as(relation) %}{{ create_table_as(False, relation, model.compiled_code) }}{% endmacro %}

{% macro view_as(relation) %}{{ create_view_as(relation, model.compiled_code) }}{% endmacro %}

{% materialization table, adapter='duckdb' %}
    {{ return(made_in_place('table', table_as)) }}
{% endmaterialization %}

{% materialization view, adapter='duckdb' %}
    {{ return(made_in_place('view', view_as)) }}
{% endmaterialization %}
