with overall as (

    select * from {{ ref('fct_shadow') }}
    where scope = 'all'

),

described as (

    select
        format(
            'Shadow {} scored the same {:,d} pairs: mean p {:.5f} against {:.5f}, a pair is {:.5f} apart on average.',
            shadow_model_id, pairs, mean_p_shadow, mean_p, mean_abs_difference
        )
        || coalesce(format(' The raw scores correlate at {:.4f}', correlation), ' The raw scores do not correlate')
        || coalesce(
            format(
                '; {:.1f} % of what the serving model puts on top of an entity''s list is on top of the shadow''s.',
                100 * top_n_overlap
            ),
            '.'
        ) as sentence
    from overall

),

final as (

    select
        'shadow' as page,
        coalesce(any_value(sentence), 'No shadow model scored beside the serving one.') as sentence
    from described

)

select * from final
