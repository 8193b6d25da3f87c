with source as (

    select * from {{ source('fieldmart', 'training_curve') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(epoch as integer) as epoch,
        cast(train_logloss as double) as train_logloss,
        cast(valid_logloss as double) as valid_logloss,
        cast(wall_s as double) as wall_s
    from source

)

select * from renamed
