with approvals as (

    select * from {{ ref('stg_fieldmart__approvals') }}

),

release as (

    select * from {{ ref('stg_fieldmart__release') }}

),

final as (

    select
        approvals.entry_id,
        approvals.seq,
        approvals.kind,
        approvals.cycle_date,
        approvals.given_at,
        approvals.given_by,
        approvals.why,
        approvals.decision_id,
        approvals.promotes,
        approvals.rule,
        approvals.until,
        case
            when approvals.kind = 'waiver'
                then
                    release.cycle_date between approvals.cycle_date and approvals.until
                    and row_number() over (
                        partition by approvals.kind, approvals.rule, approvals.cycle_date <= release.cycle_date
                        order by approvals.cycle_date desc, approvals.seq desc
                    ) = 1
        end as is_in_force,
        approvals.gate_sha,
        approvals.entry_hash
    from approvals
    cross join release

)

select * from final
