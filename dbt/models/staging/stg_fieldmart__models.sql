with source as (

    select * from {{ source('fieldmart', 'models') }}

),

renamed as (

    select
        cast(model_id as varchar) as model_id,
        cast(algorithm as varchar) as algorithm,
        cast(k as integer) as k,
        cast(seed as integer) as seed,
        cast(is_shipping_seed as boolean) as is_shipping_seed,
        cast(role as varchar) as role,
        cast(candidate_id as varchar) as candidate_id,
        cast(strategy as varchar) as strategy,
        cast(partitions as integer) as partitions,
        cast(init_model_id as varchar) as init_model_id,
        cast(negative_rate as double) as negative_rate,
        cast("window" as integer) as window_periods,
        cast(half_life as double) as half_life,
        cast(n_fields as integer) as n_fields,
        cast(n_features as bigint) as n_features,
        cast(n_parameters as bigint) as n_parameters,
        cast(artifact_bytes as bigint) as artifact_bytes,
        cast(train_rows as bigint) as train_rows,
        cast(train_from as date) as train_from,
        cast(train_through as date) as train_through,
        cast(epochs as integer) as epochs,
        cast(best_epoch as integer) as best_epoch,
        cast(cpu_s as double) as cpu_s,
        cast(wall_s as double) as wall_s,
        cast(jit_s as double) as jit_s,
        cast(peak_rss_mib as double) as peak_rss_mib,
        cast(bytes_read as bigint) as bytes_read,
        cast(rows_per_s as double) as rows_per_s,
        cast(calibrator_id as varchar) as calibrator_id,
        cast(calibrator_slope as double) as calibrator_slope,
        cast(calibrator_intercept as double) as calibrator_intercept,
        cast(hyperparameters as varchar) as hyperparameters
    from source

)

select * from renamed
