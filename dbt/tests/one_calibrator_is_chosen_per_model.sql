{{ config(tags=['evidence']) }}

-- Every model has all methods and one of them chosen, and all methods are judged on the same rows.
select model_id
from {{ ref('fct_calibrator_comparison') }}
group by model_id
having
    count(*) filter (where is_chosen) <> 1
    or count(*) <> 4
    or min(test_n) <> max(test_n)
    or min(calib_n) <> max(calib_n)
