with drift as (

    select * from {{ ref('int_drift_bins_compared') }}
    where subject = 'score'

),

final as (

    select
        field,
        period,
        n_bins,
        n_reference,
        n_current,
        psi,
        psi_expected,
        psi_excess,
        status,
        period = max(period) over () as is_latest_period
    from drift

)

select * from final
