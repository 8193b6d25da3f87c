{{ config(tags=['evidence']) }}

-- Where levers were measured, one row is what the others are compared with.
select count_if(is_reference) as n_references
from {{ ref('fct_lever_gain') }}
having count(*) > 0 and count_if(is_reference) <> 1
