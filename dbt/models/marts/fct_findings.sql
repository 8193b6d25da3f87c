with final as (

    select
        page,
        sentence
    from {{ ref('finding_decision') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_incumbent') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_accuracy_cost') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_test_openings') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_baselines') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_training_curve') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_training_cost') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_levers') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_calibration') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_drift') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_kpi_lift') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_scores') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_score_stages') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_shadow') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_staleness') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_audits') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_label_delay') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_delayed_feedback') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_calibrators') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_reliability') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_shrinkage') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_operations') }}
    union all
    select
        page,
        sentence
    from {{ ref('finding_live_performance') }}

)

select * from final
