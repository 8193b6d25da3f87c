with levers as (

    select * from {{ ref('fct_lever_gain') }}
    where not is_reference

),

reference as (

    select k
    from {{ ref('fct_lever_gain') }}
    where is_reference

),

cheapest as (

    select * from levers
    where is_cheapest_that_helps

),

-- more of what the other levers are meant to save
capacity as (

    select levers.*
    from levers
    inner join reference on levers.k > reference.k
    order by levers.delta_logloss_relative asc
    limit 1

),

counts as (

    select
        count(*) as n_levers,
        count(*) filter (where is_helpful) as n_helpful,
        max(n_folds) as n_folds
    from levers

),

final as (

    select
        'levers' as page,
        case
            when counts.n_levers = 0 then 'No lever was measured yet: run `fieldmart levers`.'
            else coalesce(
                format(
                    'Cheapest lever that helps: {}, {:+.2f} % of logloss (95 % interval {:+.2f} to {:+.2f} %) at {:.2f}'
                    ' times the CPU time of the reference. {:d} of {:d} settings surely help over {:d} folds.',
                    cheapest.label, 100 * cheapest.delta_logloss_relative, 100 * cheapest.delta_lo,
                    100 * cheapest.delta_hi, cheapest.cpu_ratio, counts.n_helpful, counts.n_levers, counts.n_folds
                ),
                format(
                    'None of {:d} settings surely helps over {:d} folds.', counts.n_levers, counts.n_folds
                )
            )
            || coalesce(
                case
                    when capacity.label = cheapest.label then ''
                    else format(
                        ' More latent factors give at best {:+.2f} % ({:+.2f} to {:+.2f} %) at {:.2f} times'
                        ' (k = {:d}).',
                        100 * capacity.delta_logloss_relative, 100 * capacity.delta_lo, 100 * capacity.delta_hi,
                        capacity.cpu_ratio, capacity.k
                    )
                end, ''
            )
        end as sentence
    from counts
    left join cheapest on true
    left join capacity on true

)

select * from final
