with source as (

    select * from {{ source('fieldmart', 'decision_rules') }}

),

renamed as (

    select
        cast(decision_id as varchar) as decision_id,
        cast(seq as integer) as seq,
        cast(rule as varchar) as rule,
        cast(severity as varchar) as severity,
        cast(mart as varchar) as mart,
        cast(metric as varchar) as metric,
        cast(operator as varchar) as operator,
        cast(threshold as double) as threshold,
        cast(value as double) as value,
        cast(outcome as varchar) as outcome,
        cast(why as varchar) as why,
        cast(note as varchar) as note,
        cast(periods_needed as integer) as periods_needed,
        cast(days_needed as integer) as days_needed
    from source

)

select * from renamed
