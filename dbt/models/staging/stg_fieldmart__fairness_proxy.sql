with source as (

    select * from {{ source('fieldmart', 'fairness_proxy') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(attribute as varchar) as attribute,
        cast(group_value as varchar) as group_value,
        cast(groups as integer) as groups,
        cast(entities as bigint) as entities,
        cast(auc as double) as auc,
        cast(auc_lo as double) as auc_lo,
        cast(auc_hi as double) as auc_hi,
        cast(recall as double) as recall,
        cast(balanced_accuracy as double) as balanced_accuracy,
        cast(fields as integer) as fields,
        cast(all_fields as integer) as all_fields
    from source

)

select * from renamed
