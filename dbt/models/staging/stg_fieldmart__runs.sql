with source as (

    select * from {{ source('fieldmart', 'runs') }}

),

renamed as (

    select
        cast(run_id as varchar) as run_id,
        cast(contract as varchar) as contract,
        cast(contract_sha as varchar) as contract_sha,
        cast(cycle_date as date) as cycle_date,
        cast(data_through as timestamp) as data_through,
        cast(snapshot_id as varchar) as snapshot_id,
        cast(examples_id as varchar) as examples_id,
        cast(label_version as varchar) as label_version,
        cast(git_sha as varchar) as git_sha,
        cast(lock_sha as varchar) as lock_sha,
        cast(python as varchar) as python,
        cast(spark as varchar) as spark,
        cast(jvm as varchar) as jvm,
        cast(machine as varchar) as machine,
        cast(cores as integer) as cores,
        cast(env_hash as varchar) as env_hash,
        cast(started_at as timestamp) as started_at
    from source

)

select * from renamed
