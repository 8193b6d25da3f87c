with models as (

    select * from {{ ref('dim_model') }}

),

decisions as (

    select * from {{ ref('stg_fieldmart__decisions') }}

),

approvals as (

    select * from {{ ref('stg_fieldmart__approvals') }}
    where promotes is not null

),

scoring as (

    select * from {{ ref('stg_fieldmart__scoring') }}

),

release as (

    select * from {{ ref('stg_fieldmart__release') }}

),

incumbents as (

    select * from {{ ref('stg_fieldmart__incumbent_comparison') }}

),

-- Every model that a mart of the release names.
named as (

    select model_id from models
    union
    select init_model_id as model_id from models
    union
    select candidate_model_id as model_id from decisions
    union
    select champion_model_id as model_id from decisions
    union
    select promotes as model_id from approvals
    union
    select champion_model_id as model_id from {{ ref('stg_fieldmart__nights') }}
    union
    select model_id from {{ ref('stg_fieldmart__alias_changes') }}
    union
    select model_id from {{ ref('stg_fieldmart__live_performance') }}
    union
    select incumbent_model_id as model_id from incumbents
    union
    select model_id from {{ ref('stg_fieldmart__value_periods') }}
    union
    select model_id from {{ ref('stg_fieldmart__staleness_cost') }}
    union
    select model_id from {{ ref('stg_fieldmart__score_audits') }}
    union
    select model_id from scoring
    union
    select requested_model_id as model_id from scoring
    union
    select shadow_model_id as model_id from scoring
    union
    select champion_model_id as model_id from release

),

-- The last decision that promoted a model, an approval counting as one.
promotions as (

    select
        champion_model_id as model_id,
        decision_id,
        cycle_date,
        decided_at as promoted_at,
        k,
        seq
    from decisions
    where verdict = 'GO'
    union all
    select
        approvals.promotes as model_id,
        approvals.decision_id,
        approvals.cycle_date,
        approvals.given_at as promoted_at,
        decisions.k,
        approvals.seq
    from approvals
    left join decisions on approvals.decision_id = decisions.decision_id

),

last_promotions as (

    select * from promotions
    qualify row_number() over (partition by model_id order by seq desc) = 1

),

judged as (

    select
        candidate_model_id as model_id,
        max(k) as k
    from decisions
    where candidate_model_id is not null
    group by candidate_model_id

),

-- Of a model of an earlier cycle the log says what this needs: the gate judges FFM candidates alone, and what is
-- promoted is the refit of one.
described as (

    select
        named.model_id,
        coalesce(models.k, last_promotions.k, judged.k, incumbents.incumbent_k) as k,
        case
            when models.algorithm is not null then models.algorithm
            when incumbents.incumbent_algorithm is not null then incumbents.incumbent_algorithm
            when coalesce(last_promotions.model_id, judged.model_id) is not null then 'ffm'
        end as algorithm,
        case
            when models.role is not null then models.role
            when last_promotions.model_id is not null then 'refit'
            when judged.model_id is not null then 'candidate'
        end as role,
        models.model_id is not null as is_of_cycle,
        last_promotions.decision_id as promoted_by,
        last_promotions.cycle_date as promoted_for,
        last_promotions.promoted_at,
        coalesce(named.model_id = release.champion_model_id, false) as is_champion,
        coalesce(named.model_id = scoring.model_id, false) as is_served
    from named
    cross join release
    cross join scoring
    left join models on named.model_id = models.model_id
    left join last_promotions on named.model_id = last_promotions.model_id
    left join incumbents on named.model_id = incumbents.incumbent_model_id
    left join judged on named.model_id = judged.model_id
    where named.model_id is not null

),

final as (

    select
        model_id,
        k,
        algorithm,
        role,
        {{ model_label('algorithm', 'k') }} as label,
        is_of_cycle,
        promoted_by,
        promoted_for,
        promoted_at,
        is_champion,
        is_served
    from described

)

select * from final
