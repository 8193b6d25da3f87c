-- At every time from its first change on, an alias names exactly one thing.
with spans as (

    select
        *,
        lead(valid_from) over (partition by contract, alias order by seq) as next_from
    from {{ ref('fct_alias_history') }}

)

select * from spans
where
    valid_to is distinct from next_from
    or valid_to < valid_from
    or is_current <> (next_from is null)
