with comparison as (

    select * from {{ ref('fct_incumbent_comparison') }}

),

described as (

    select
        format(
            'Against the {}, FFM with k = {:d} has {:.2f} % {} test logloss',
            case
                when incumbent_source = 'champion'
                    then 'champion, ' || {{ model_label('incumbent_algorithm', 'incumbent_k') }}
                else 'prior, which serves while there is no champion'
            end,
            challenger_k, 100 * abs(delta_relative),
            case when delta_logloss <= 0 then 'less' else 'more' end
        )
        || coalesce(
            format(
                ' (95 % interval {:+.2f} to {:+.2f} % over {:d} periods; clustered by entity {:+.2f} to {:+.2f} %)',
                100 * delta_relative_lo, 100 * delta_relative_hi, n_periods,
                100 * delta_lo_entity / nullif(incumbent_logloss, 0),
                100 * delta_hi_entity / nullif(incumbent_logloss, 0)
            ),
            ''
        )
        || coalesce(
            format(
                ' and costs {:.2g} against {:.2g} USD per million scores. ', challenger_usd_per_1m, incumbent_usd_per_1m
            ),
            ', at a cost that was not measured. '
        )
        || case
            when needs = 'non_inferiority'
                then
                    format(
                        'It is cheaper, so it only must not be worse by more than {:.2f} %: ',
                        100 * margin / nullif(incumbent_logloss, 0)
                    )
            when needs = 'superiority' then 'It is not cheaper, so it must be better: '
            else 'Whether it has to be better cannot be said'
        end
        || case
            when is_earned then 'it is.'
            when needs is null then '.'
            when is_earned is null then 'with fewer than two periods nobody can tell.'
            when delta_lo > allowed_delta then 'it surely is not.'
            else 'that is not shown.'
        end as sentence
    from comparison

),

final as (

    select
        'incumbent' as page,
        coalesce(
            any_value(sentence), 'The chosen model was not compared with what serves: no k was chosen, or nothing ran.'
        ) as sentence
    from described

)

select * from final
