-- The marts that examples/bi.sql asks, as views over the Parquet files of a release, for any DuckDB.
--
-- Say which release first; the folder itself, not the link `current`, so that all views stay with one release:
--     set variable release = 'warehouse/releases/promo-2017-12-18';
create or replace view dim_candidate as
select * from read_parquet(getvariable('release') || '/marts/dim_candidate.parquet');

create or replace view dim_entity as
select * from read_parquet(getvariable('release') || '/marts/dim_entity.parquet');

create or replace view dim_release as
select * from read_parquet(getvariable('release') || '/marts/dim_release.parquet');

create or replace view fct_accuracy_cost_by_k as
select * from read_parquet(getvariable('release') || '/marts/fct_accuracy_cost_by_k.parquet');

create or replace view fct_alias_history as
select * from read_parquet(getvariable('release') || '/marts/fct_alias_history.parquet');

create or replace view fct_calibration_by_slice as
select * from read_parquet(getvariable('release') || '/marts/fct_calibration_by_slice.parquet');

create or replace view fct_data_quality as
select * from read_parquet(getvariable('release') || '/marts/fct_data_quality.parquet');

create or replace view fct_decision_rules as
select * from read_parquet(getvariable('release') || '/marts/fct_decision_rules.parquet');

create or replace view fct_decisions as
select * from read_parquet(getvariable('release') || '/marts/fct_decisions.parquet');

create or replace view fct_drift_by_field as
select * from read_parquet(getvariable('release') || '/marts/fct_drift_by_field.parquet');

create or replace view fct_entity_scores as
select * from read_parquet(getvariable('release') || '/marts/fct_entity_scores.parquet');

create or replace view fct_findings as
select * from read_parquet(getvariable('release') || '/marts/fct_findings.parquet');

create or replace view fct_kpi_lift as
select * from read_parquet(getvariable('release') || '/marts/fct_kpi_lift.parquet');

create or replace view fct_label_maturity as
select * from read_parquet(getvariable('release') || '/marts/fct_label_maturity.parquet');

create or replace view fct_live_performance as
select * from read_parquet(getvariable('release') || '/marts/fct_live_performance.parquet');

create or replace view fct_nights as
select * from read_parquet(getvariable('release') || '/marts/fct_nights.parquet');

create or replace view fct_score_drift as
select * from read_parquet(getvariable('release') || '/marts/fct_score_drift.parquet');

create or replace view fct_scoring as
select * from read_parquet(getvariable('release') || '/marts/fct_scoring.parquet');

create or replace view fct_slo as
select * from read_parquet(getvariable('release') || '/marts/fct_slo.parquet');

create or replace view fct_stage_percentiles as
select * from read_parquet(getvariable('release') || '/marts/fct_stage_percentiles.parquet');

create or replace view fct_value_curve as
select * from read_parquet(getvariable('release') || '/marts/fct_value_curve.parquet');
