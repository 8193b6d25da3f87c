with domain_shift as (

    select
        *,
        coalesce(field, 'all fields') as subject
    from {{ ref('stg_fieldmart__domain_shift') }}

),

reference as (

    select
        subject,
        auc as reference_auc
    from domain_shift
    where comparison = 'alternate'

),

final as (

    select
        domain_shift.comparison,
        domain_shift.subject,
        domain_shift.field is null as is_all_fields,
        domain_shift.auc,
        domain_shift.auc_lo,
        domain_shift.auc_hi,
        reference.reference_auc,
        domain_shift.auc - reference.reference_auc as excess,
        coalesce(
            domain_shift.comparison = 'test'
            and domain_shift.auc - reference.reference_auc > {{ var('domain_shift_alarm') }},
            false
        ) as is_material,
        domain_shift.n,
        domain_shift.periods,
        domain_shift.reference_periods
    from domain_shift
    left join reference on domain_shift.subject = reference.subject

)

select * from final
