with nights as (

    select * from {{ ref('stg_fieldmart__nights') }}

),

operations as (

    select * from {{ ref('stg_fieldmart__operations') }}

),

objectives as (

    select * from {{ ref('stg_fieldmart__slo_objectives') }}

),

-- A night that is not published is not late before its hour has come. The release's own is published after this, but
-- if it was run again its first publication is known, and a second one does not make it punctual.
ready as (

    select
        'scores_ready' as slo,
        'night' as kind,
        nights.started_at as observed_at,
        cast(date_diff('second', nights.due_at, nights.published_at) as double) as value,
        true as ok
    from nights
    cross join objectives
    where
        objectives.slo = 'scores_ready'
        and (nights.published_at is not null or (nights.due_at <= objectives.as_of and not nights.is_own))

),

readable as (

    select
        'mart_readable' as slo,
        'probe' as kind,
        date_trunc('minute', happened_at) as observed_at,
        cast(count_if(not ok) as double) as value,
        true as ok
    from operations
    where kind = 'probe'
    group by date_trunc('minute', happened_at)

),

-- A drill or a restore that failed kept neither promise; how long it took to fail is no time of recovery.
recovered as (

    select
        'recovery_point' as slo,
        kind,
        happened_at as observed_at,
        case when ok then rpo_s end as value,
        ok
    from operations
    where kind in ('drill', 'restore') and (rpo_s is not null or not ok)
    union all
    select
        'recovery_time' as slo,
        kind,
        happened_at as observed_at,
        case when ok then seconds end as value,
        ok
    from operations
    where kind in ('drill', 'restore') and (seconds is not null or not ok)

),

observed as (

    select
        slo,
        kind,
        observed_at,
        value,
        ok
    from ready
    union all
    select
        slo,
        kind,
        observed_at,
        value,
        ok
    from readable
    union all
    select
        slo,
        kind,
        observed_at,
        value,
        ok
    from recovered

),

final as (

    select
        observed.slo,
        observed.kind,
        observed.observed_at,
        observed.value,
        observed.ok and coalesce(observed.value <= objectives.threshold, false) as is_good,
        observed.observed_at > objectives.as_of - to_days(objectives.window_days) as is_in_window
    from observed
    inner join objectives on observed.slo = objectives.slo
    where
        observed.observed_at <= objectives.as_of
        and observed.observed_at > objectives.as_of - to_days(2 * objectives.window_days)

)

select * from final
