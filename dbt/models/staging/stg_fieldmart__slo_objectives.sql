with source as (

    select * from {{ source('fieldmart', 'slo_objectives') }}

),

renamed as (

    select
        cast(slo as varchar) as slo,
        cast(title as varchar) as title,
        cast(threshold as double) as threshold,
        cast(unit as varchar) as unit,
        cast(objective as double) as objective,
        cast(window_days as integer) as window_days,
        cast(regression_alarm as double) as regression_alarm,
        cast(as_of as timestamp) as as_of,
        cast(slo_sha as varchar) as slo_sha
    from source

)

select * from renamed
