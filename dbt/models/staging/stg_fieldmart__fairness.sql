with source as (

    select * from {{ source('fieldmart', 'fairness') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(attribute as varchar) as attribute,
        cast(group_value as varchar) as group_value,
        cast(entities as bigint) as entities,
        cast(n as bigint) as n,
        cast(conversions as bigint) as conversions,
        cast(sum_p as double) as sum_p,
        cast(calibration_ratio_lo as double) as calibration_ratio_lo,
        cast(calibration_ratio_hi as double) as calibration_ratio_hi,
        cast(calibration_ratio_lo_entity as double) as calibration_ratio_lo_entity,
        cast(calibration_ratio_hi_entity as double) as calibration_ratio_hi_entity,
        cast(auc as double) as auc,
        cast(auc_lo as double) as auc_lo,
        cast(auc_hi as double) as auc_hi,
        cast(top_n as integer) as top_n,
        cast(contacted as bigint) as contacted,
        cast(captured as bigint) as captured,
        cast(min_n as bigint) as min_n
    from source

)

select * from renamed
