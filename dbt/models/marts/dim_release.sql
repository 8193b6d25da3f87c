with release as (

    select * from {{ ref('stg_fieldmart__release') }}

),

runs as (

    select * from {{ ref('stg_fieldmart__runs') }}

),

final as (

    select
        release.release_id,
        release.contract,
        release.cycle_date,
        release.data_through,
        date_diff('day', release.data_through_day, release.cycle_date) as data_age_days,
        release.run_id,
        runs.started_at as built_at,
        runs.label_version,
        runs.snapshot_id,
        runs.examples_id,
        runs.git_sha,
        release.verdict,
        release.decision_id,
        release.champion_model_id,
        release.score_source,
        release.data_note
    from release
    left join runs on release.run_id = runs.run_id

)

select * from final
