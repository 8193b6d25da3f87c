with periods as (

    select
        period,
        split,
        lead(period) over (order by period) - period as days_to_next
    from {{ ref('stg_fieldmart__label_rates') }}

),

period_days as (

    select
        period,
        split,
        min(days_to_next) over () as days
    from periods

),

release as (

    select * from {{ ref('stg_fieldmart__release') }}

),

named as (

    select period as named_day
    from periods
    union all
    select cycle_date as named_day
    from release
    union all
    select cycle_date as named_day
    from {{ ref('stg_fieldmart__decisions') }}

),

-- Whole years, and one more on either side: training begins before the first period, waivers run out after the last.
days as (

    select
        unnest(
            generate_series(
                date_trunc('year', min(named_day)) - interval 1 year,
                date_trunc('year', max(named_day)) + interval 2 year - interval 1 day,
                interval 1 day
            )
        ) as instant
    from named

),

dated as (

    select
        cast(days.instant as date) as date_day,
        period_days.period,
        period_days.split,
        cast(period_days.days as integer) as days
    from days
    asof left join period_days on cast(days.instant as date) >= period_days.period

),

-- A gap between periods belongs to none of them, and so does what was not read yet.
placed as (

    select
        dated.date_day,
        dated.date_day = release.cycle_date as is_cycle_date,
        case
            when dated.date_day < least(dated.period + coalesce(dated.days, 1), release.data_through) then dated.period
        end as period,
        case
            when dated.date_day < least(dated.period + coalesce(dated.days, 1), release.data_through) then dated.split
        end as split
    from dated
    cross join release

),

final as (

    select
        date_day,
        cast(year(date_day) as integer) as calendar_year,
        cast(quarter(date_day) as integer) as calendar_quarter,
        cast(month(date_day) as integer) as calendar_month,
        cast(date_trunc('month', date_day) as date) as month_from,
        cast(isoyear(date_day) as integer) as iso_year,
        cast(week(date_day) as integer) as iso_week,
        cast(date_trunc('week', date_day) as date) as week_from,
        cast(isodow(date_day) as integer) as iso_weekday,
        dayname(date_day) as weekday_name,
        isodow(date_day) > 5 as is_weekend,
        period,
        split,
        is_cycle_date
    from placed

)

select * from final
