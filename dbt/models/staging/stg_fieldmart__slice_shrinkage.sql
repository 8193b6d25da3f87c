with source as (

    select * from {{ source('fieldmart', 'slice_shrinkage') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(level as varchar) as level,
        cast(depth as integer) as depth,
        cast(value as varchar) as value,
        cast(parent as varchar) as parent,
        cast(is_unseen as boolean) as is_unseen,
        cast(entities as bigint) as entities,
        cast(n as bigint) as n,
        cast(conversions as bigint) as conversions,
        cast(sum_p as double) as sum_p,
        cast(raw_ratio as double) as raw_ratio,
        cast(shrunk_ratio as double) as shrunk_ratio,
        cast(weight as double) as weight,
        cast(parent_ratio as double) as parent_ratio,
        cast(strength as double) as strength
    from source

)

select * from renamed
