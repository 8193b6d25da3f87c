with candidates as (

    select * from {{ ref('fct_accuracy_cost_by_k') }}

),

smallest as (

    select min(k) as k
    from candidates
    where not is_baseline

),

verdict as (

    select
        chosen.*,
        best.logloss_seed_mean as best_logloss,
        best.usd_per_1m_scores as best_usd_per_1m_scores,
        100 * chosen.margin / best.logloss_seed_mean as margin_percent,
        chosen.k > smallest.k as has_smaller,
        case when chosen.n_seeds > 1 then format(' and {:d} seeds', chosen.n_seeds) else '' end as seeds
    from candidates as chosen
    inner join candidates as best on chosen.best_model_id = best.model_id
    cross join smallest
    where chosen.is_verdict

),

described as (

    select
        case
            when verdict_from is not null
                then format(
                    'k = {:d} was chosen by the sweep of {}; its logloss this night is {:.5f} over {:d} periods{}',
                    k, strftime(verdict_from, '%Y-%m-%d'), logloss_seed_mean, n_periods, seeds
                )
                || case
                    when model_id = best_model_id then ', the lowest of all k'
                    else format(
                        ', that of k = {:d}, the lowest, {:.5f}: a difference of {:+.6f}',
                        best_k, best_logloss, delta_logloss
                    )
                end
            when model_id = best_model_id
                then format(
                    'k = {:d} has the lowest test logloss, {:.5f} over {:d} periods{}',
                    k, logloss_seed_mean, n_periods, seeds
                )
                || case
                    when has_smaller then format(', and no smaller k is surely within {:.2g} % of it', margin_percent)
                    else ' and is the smallest k'
                end
            else format(
                'k = {:d} is the smallest k surely within {:.2g} % of the best logloss, that of k = {:d}: {:.5f}'
                ' against {:.5f} over {:d} periods{}, a difference of {:+.6f}',
                k, margin_percent, best_k, logloss_seed_mean,
                best_logloss, n_periods, seeds, delta_logloss
            )
        end
        || case
            when model_id = best_model_id then ''
            else coalesce(format(
                ' (simultaneous 95 % interval {:+.6f} to {:+.6f})', delta_lo_simultaneous, delta_hi_simultaneous
            ), '')
        end
        || case
            when usd_per_1m_scores is null then '; its cost was not measured'
            when model_id = best_model_id or best_usd_per_1m_scores is null
                then format(', at {:.6f} USD per million scores', usd_per_1m_scores)
            else format(
                ', at {:.6f} against {:.6f} USD per million scores', usd_per_1m_scores, best_usd_per_1m_scores
            )
        end
        || case when is_provisional then format('. Provisional: {:d} of 5 seeds.', n_seeds) else '.' end as sentence
    from verdict

),

final as (

    select
        'accuracy_cost' as page,
        coalesce(any_value(sentence), 'No k was chosen: the comparison has no verdict.') as sentence
    from described

)

select * from final
