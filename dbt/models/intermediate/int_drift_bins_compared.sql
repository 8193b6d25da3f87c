with drift_bins as (

    select * from {{ ref('stg_fieldmart__drift_bins') }}

),

-- a bin is its name: two whose edges round to the same text are one
reference_bins as (

    select
        subject,
        field,
        bin,
        sum(n) as n
    from drift_bins
    where is_reference
    group by subject, field, bin

),

current_bins as (

    select
        subject,
        field,
        period,
        bin,
        sum(n) as n
    from drift_bins
    where not is_reference
    group by subject, field, period, bin

),

periods as (

    select distinct
        subject,
        field,
        period
    from current_bins

),

-- every bin that occurs in the reference or in the period, with a count of 0 where it is absent
bins as (

    select
        periods.subject,
        periods.field,
        periods.period,
        reference_bins.bin
    from periods
    inner join reference_bins on periods.subject = reference_bins.subject and periods.field = reference_bins.field
    union
    select
        subject,
        field,
        period,
        bin
    from current_bins

),

counts as (

    select
        bins.subject,
        bins.field,
        bins.period,
        bins.bin,
        coalesce(reference_bins.n, 0) as n_reference,
        coalesce(current_bins.n, 0) as n_current
    from bins
    left join reference_bins
        on
            bins.subject = reference_bins.subject
            and bins.field = reference_bins.field
            and bins.bin = reference_bins.bin
    left join current_bins
        on
            bins.subject = current_bins.subject
            and bins.field = current_bins.field
            and bins.period = current_bins.period
            and bins.bin = current_bins.bin

),

-- half a row is added to each bin: an empty bin must not make the index infinite
shares as (

    select
        *,
        (n_reference + 0.5) / (sum(n_reference + 0.5) over (partition by subject, field, period)) as share_reference,
        (n_current + 0.5) / (sum(n_current + 0.5) over (partition by subject, field, period)) as share_current
    from counts
    where n_reference + n_current > 0

),

compared as (

    select
        subject,
        field,
        period,
        cast(count(*) as integer) as n_bins,
        cast(sum(n_reference) as bigint) as n_reference,
        cast(sum(n_current) as bigint) as n_current,
        sum((share_current - share_reference) * ln(share_current / share_reference) order by bin) as psi,
        (count(*) - 1) * (1 / nullif(sum(n_reference), 0) + 1 / nullif(sum(n_current), 0)) as psi_expected
    from shares
    group by subject, field, period

),

excess as (

    select
        *,
        psi - psi_expected as psi_excess,
        case
            when psi is null or psi_expected is null then 'unknown'
            when psi - psi_expected >= {{ var('psi_alarm') }} then 'alarm'
            when psi - psi_expected >= {{ var('psi_watch') }} then 'watch'
            else 'stable'
        end as status
    from compared

)

select * from excess
