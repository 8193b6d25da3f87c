with stages as (

    select * from {{ ref('fct_score_stages') }}

),

dominant as (

    select * from stages
    where is_dominant

),

blocks as (

    select * from stages
    where not is_part

),

scoring as (

    select * from {{ ref('fct_scoring') }}

),

final as (

    select
        'score_stages' as page,
        case
            when blocks.blocks is null then 'What scoring took was not recorded.'
            else coalesce(
                format(
                    'Stage {} takes most of the time, {:.0f} % of that of {:,d} {}. ',
                    dominant.stage, 100 * dominant.share_of_time, blocks.blocks,
                    case when blocks.blocks = 1 then 'block' else 'blocks' end
                ),
                ''
            )
            || format(
                'Half of the blocks end within {:.2f} s, 95 % within {:.2f} s, the slowest after {:.2f} s{}. ',
                blocks.p50_s, blocks.p95_s, blocks.max_s,
                case when scoring.is_skewed then format(', {:.1f} times the median', scoring.skew) else '' end
            )
            || coalesce(
                format(
                    '{:,.0f} scores a second of wall time, {:.6f} USD per million.',
                    scoring.pairs_per_s, scoring.usd_per_1m_scores
                ),
                ''
            )
        end as sentence
    from scoring
    left join blocks on true
    left join dominant on true

)

select * from final
