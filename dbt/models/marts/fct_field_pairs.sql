with terms as (

    select * from {{ ref('stg_fieldmart__field_pairs') }}

),

comparison as (

    select * from {{ ref('stg_fieldmart__k_comparison') }}

),

final as (

    select
        terms.model_id,
        terms.k,
        coalesce(comparison.is_verdict, false) as is_verdict,
        terms.field_a || coalesce(' × ' || terms.field_b, '') as term,
        terms.field_a,
        terms.field_b,
        terms.field_b is not null as is_pair,
        terms.share,
        terms.variance,
        terms.variance / nullif(terms.logit_variance, 0) as variance_share,
        terms.mean_abs,
        cast(
            row_number() over (
                partition by terms.model_id order by terms.share desc, terms.field_a asc, terms.field_b asc
            ) as integer
        ) as share_rank,
        coalesce(
            sum(terms.share) filter (where terms.field_b is not null) over (partition by terms.model_id), 0
        ) as pairs_share,
        terms.n
    from terms
    left join comparison on terms.model_id = comparison.model_id

)

select * from final
