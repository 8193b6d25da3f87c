-- A mart database holds one release, built by a run it knows.
select count(*) as releases
from {{ ref('dim_release') }}
having count(*) <> 1 or count(built_at) <> 1
