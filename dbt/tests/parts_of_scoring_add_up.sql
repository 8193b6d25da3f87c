-- One stage at most dominates, and the parts of the blocks share all of their time.
select sum(share_of_time) as shares
from {{ ref('fct_score_stages') }}
having count_if(is_dominant) > 1 or abs(sum(share_of_time) - 1) > 1e-9
