with finest as (

    select
        model_id,
        level
    from {{ ref('fct_slice_shrinkage') }}
    qualify row_number() over (partition by model_id order by depth desc) = 1

),

gained as (

    select gains.*
    from {{ ref('fct_shrinkage_gain') }} as gains
    inner join finest on gains.model_id = finest.model_id and gains.level = finest.level
    where gains.correction = 'shrunk' and gains.is_verdict

),

unseen as (

    select *
    from {{ ref('fct_slice_shrinkage') }}
    where is_unseen and is_verdict
    qualify row_number() over (order by depth desc) = 1

),

worth as (

    select
        format(
            'Multiplying p by the observed over expected conversions of each {}, learned on {:d} test periods and'
            ' shrunk to the level above, changes the misses of the {:d} later periods by {:+.1f} % against leaving p'
            ' alone',
            level, learned_periods, n_periods, 100 * vs_none
        )
        || coalesce(format(' (95 % interval {:+.1f} to {:+.1f} %)', 100 * vs_none_lo, 100 * vs_none_hi), '')
        || coalesce(format(' and by {:+.1f} % against ratios that are not shrunk', 100 * vs_raw), '')
        || coalesce(format(' ({:+.1f} to {:+.1f} %)', 100 * vs_raw_lo, 100 * vs_raw_hi), '')
        || case
            when beats_none then ': it helps.'
            when loses_to_none then ': leave p alone.'
            else ': it is not shown to help.'
        end as sentence
    from gained

),

cold as (

    select
        format(
            ' Of a {} never seen in training {:,d} of {:,d} rows convert, {:.3f} times what p expects; {:.3f} once'
            ' shrunk.',
            level, conversions, n, raw_ratio, shrunk_ratio
        ) as sentence
    from unseen

),

final as (

    select
        'shrinkage' as page,
        coalesce(
            (select worth.sentence from worth),
            'What corrections of small slices are worth was not measured: it takes a chosen k and two test periods.'
        )
        || coalesce((select cold.sentence from cold), '') as sentence

)

select * from final
