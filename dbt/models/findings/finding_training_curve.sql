with models as (

    select
        label,
        k,
        any_value(best_epoch) as best_epoch,
        any_value(last_epoch) as last_epoch,
        any_value(is_overfit_alarm) as is_alarm,
        any_value(valid_above_best) filter (where epoch = last_epoch) as rise
    from {{ ref('fct_training_curve') }}
    where role = 'candidate' and is_shipping_seed and algorithm = 'ffm'
    group by label, k

),

counts as (

    select
        count(*) as n_models,
        count(rise) as n_judged,
        count(*) filter (where is_alarm) as n_alarms,
        string_agg(
            format('k = {:d} by {:.1f} % (epoch {:d} kept)', k, 100 * rise, best_epoch), ', ' order by k
        ) filter (where is_alarm) as alarms,
        max(rise) as largest_rise,
        string_agg('k = ' || k, ', ' order by k) filter (where best_epoch = last_epoch) as unfinished
    from models

),

final as (

    select
        'training_curve' as page,
        case
            when n_judged = 0 then 'No valid logloss was recorded: overfitting cannot be judged.'
            when n_alarms > 0
                then format(
                    'Overfitting: after the epoch kept, valid logloss rose while that of train fell: {}.'
                    ' Stopping early took that back.', alarms
                )
            else format(
                'No k overfits by more than {{ 100 * var("overfit_alarm") }} %: at the last epoch valid logloss is at'
                ' most {:.2f} % above that of the epoch kept.', 100 * largest_rise
            )
        end
        || case
            when unfinished is null then ''
            else ' The last epoch was the best for ' || unfinished || ': more epochs may help.'
        end as sentence
    from counts

)

select * from final
