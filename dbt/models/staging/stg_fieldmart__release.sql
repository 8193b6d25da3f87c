with source as (

    select * from {{ source('fieldmart', 'release') }}

),

renamed as (

    select
        cast(release_id as varchar) as release_id,
        cast(contract as varchar) as contract,
        cast(cycle_date as date) as cycle_date,
        cast(data_through as timestamp) as data_through,
        cast(data_through_day as date) as data_through_day,
        cast(run_id as varchar) as run_id,
        cast(verdict as varchar) as verdict,
        cast(decision_id as varchar) as decision_id,
        cast(champion_model_id as varchar) as champion_model_id,
        cast(score_source as varchar) as score_source,
        cast(data_note as varchar) as data_note
    from source

)

select * from renamed
