with models as (

    select * from {{ ref('stg_fieldmart__models') }}

),

final as (

    select
        model_id,
        algorithm,
        {{ model_label('algorithm', 'k') }} as label,
        k,
        seed,
        is_shipping_seed,
        role,
        candidate_id,
        strategy,
        partitions,
        init_model_id,
        negative_rate,
        window_periods,
        half_life,
        n_fields,
        n_features,
        n_parameters,
        artifact_bytes / 1024.0 ^ 2 as artifact_mib,
        train_rows,
        train_from,
        train_through,
        epochs,
        best_epoch,
        cpu_s as train_cpu_s,
        wall_s as train_wall_s,
        jit_s as train_jit_s,
        peak_rss_mib as train_peak_rss_mib,
        bytes_read as train_bytes_read,
        rows_per_s as train_rows_per_s,
        calibrator_id,
        calibrator_slope,
        calibrator_intercept,
        hyperparameters
    from models

)

select * from final
