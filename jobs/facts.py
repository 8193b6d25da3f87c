"""The declared schemas of the facts: the Parquet data sets that jobs write and dbt reads as sources.

A job may only write a fact through `table`, which refuses missing, extra or mistyped columns, so what dbt
finds is what stands here. Periods are dates (the day a period starts). Sizes are bytes, times are seconds.
"""

from __future__ import annotations

import pyarrow as pa

_day, _ts, _str, _f32, _f64, _i64, _i32, _bool = (
    pa.date32(),
    pa.timestamp("us"),
    pa.string(),
    pa.float32(),
    pa.float64(),
    pa.int64(),
    pa.int32(),
    pa.bool_(),
)

SCHEMA_VERSION = 1

# single precision: a full set can have 1e9 rows, and its numbers come from float32 factors
_scores = {
    "entity_id": _str,
    "candidate_id": _str,
    "match_id": _str,  # what joins an entity to its candidates (promo: the household's usual store)
    "p": _f32,
    "raw_score": _f32,  # logit before calibration
    "rank_in_entity": _i32,  # 1 = highest
    "oov_share": _f32,  # share of fields whose value was unknown to the model
    "model_id": _str,
    "calibrator_id": _str,
    "score_date": _day,
    "scored_at": _ts,
    "data_through": _ts,
    "source": _str,  # model | stale | prior
}

FACTS: dict[str, pa.Schema] = {
    # one row: the run that built this release
    "runs": pa.schema(
        {
            "run_id": _str,
            "contract": _str,
            "contract_sha": _str,
            "cycle_date": _day,
            "data_through": _ts,  # first instant that was not read
            "snapshot_id": _str,
            "examples_id": _str,
            "label_version": _str,  # attribution rule, window and event list, as one string
            "git_sha": _str,
            "lock_sha": _str,
            "python": _str,
            "spark": _str,
            "machine": _str,
            "cores": _i32,
            "started_at": _ts,
        }
    ),
    # one row per stage of the run
    "run_stages": pa.schema(
        {
            "run_id": _str,
            "seq": _i32,
            "stage": _str,
            "status": _str,  # done | reused
            "started_at": _ts,
            "wall_s": _f64,
            "rows": _i64,
            "bytes_written": _i64,
            "peak_rss_mib": _f64,
        }
    ),
    # one row per (contract input, outcome): reason is null for the rows that were kept
    "ingest_counts": pa.schema({"source": _str, "reason": _str, "rows": _i64}),
    # one row per period with exposures
    "label_rates": pa.schema(
        {
            "period": _day,
            "split": _str,  # train | valid | calib | test | unused
            "exposures": _i64,
            "conversions": _i64,
            "is_mature": _bool,
        }
    ),
    # one row per trained model; cost is measured inside the worker, compile time apart
    "models": pa.schema(
        {
            "model_id": _str,
            "algorithm": _str,  # prior | lr | lr_cross | lightgbm | fm | ffm
            "k": _i32,  # 0 where there is none
            "seed": _i32,
            "is_shipping_seed": _bool,  # the seed that goes live, fixed by the contract before anything is trained
            # candidate: trained on train, chooses epochs and calibrators | rehearsal: its refit through calib, scores
            # test | refit: trained through the last matured period, goes live
            "role": _str,
            "candidate_id": _str,  # the candidate that this model repeats; its own id for a candidate
            "strategy": _str,  # sweep (one task, one model) | mixing (one model over partitions)
            "partitions": _i32,
            "init_model_id": _str,  # warm start; null for a cold one
            "negative_rate": _f64,  # share of the negatives that was trained on
            "window": _i32,  # training periods at most; null: all
            "half_life": _f64,  # periods after which a row counts half; null: all count the same
            "n_fields": _i32,
            "n_features": _i64,
            "n_parameters": _i64,
            "artifact_bytes": _i64,
            "train_rows": _i64,
            "train_from": _day,
            "train_through": _day,
            "epochs": _i32,
            "best_epoch": _i32,
            "cpu_s": _f64,
            "wall_s": _f64,
            "jit_s": _f64,
            "peak_rss_mib": _f64,
            "bytes_read": _i64,
            "rows_per_s": _f64,
            "calibrator_id": _str,
            "calibrator_slope": _f64,  # p = sigmoid(slope * logit + intercept), as learned on the calib periods
            "calibrator_intercept": _f64,
            "hyperparameters": _str,  # JSON; equal for all k of a sweep
        }
    ),
    # one row per model, stage and partition, measured inside the worker, compile time apart
    "training_cost": pa.schema(
        {
            "model_id": _str,
            "k": _i32,
            "seed": _i32,
            # fit | calibrate | save, and of mixing prepare | verify | pass | merge | validation; summed over the epochs
            "stage": _str,
            "partition": _i32,
            "rows": _i64,  # passed, over all epochs
            "wall_s": _f64,
            "cpu_s": _f64,
            "jit_s": _f64,
            "peak_rss_mib": _f64,
            "bytes_read": _i64,
            "artifact_bytes": _i64,
            "rows_per_s": _f64,
        }
    ),
    # one row per model and epoch
    "training_curve": pa.schema(
        {
            "model_id": _str,
            "epoch": _i32,  # from 1
            "train_logloss": _f64,
            "valid_logloss": _f64,
            "wall_s": _f64,
        }
    ),
    # one row per model, split (valid | calib | test) and period; sums of calibrated predictions
    "period_metrics": pa.schema(
        {
            "model_id": _str,
            "split": _str,
            "period": _day,
            "n": _i64,
            "conversions": _i64,
            "sum_p": _f64,
            "sum_logloss": _f64,
            "sum_squared_error": _f64,
            "auc": _f64,
        }
    ),
    # one row per model and split; intervals: t over periods, 95 %
    "model_metrics": pa.schema(
        {
            "model_id": _str,
            "split": _str,
            "n": _i64,
            "conversions": _i64,
            "sum_p": _f64,
            "sum_logloss": _f64,
            "sum_squared_error": _f64,
            "auc": _f64,
            "pr_auc": _f64,  # average precision
            "logloss_lo": _f64,
            "logloss_hi": _f64,
            "calibration_ratio_lo": _f64,  # mean p / observed rate
            "calibration_ratio_hi": _f64,
            "n_periods": _i32,
        }
    ),
    # one row per k, against the k with the lowest test logloss; losses are means over the seeds, paired by period
    "k_comparison": pa.schema(
        {
            "k": _i32,
            "model_id": _str,  # the candidate of the seed that ships
            "best_k": _i32,
            "best_model_id": _str,
            "logloss": _f64,
            "delta_logloss": _f64,  # this k minus the best one
            "se_seed": _f64,  # of the delta, from the seeds; null with one seed
            "se_period": _f64,  # of the delta, from the periods
            "delta_lo": _f64,
            "delta_hi": _f64,
            "delta_lo_simultaneous": _f64,  # Bonferroni over the k compared
            "delta_hi_simultaneous": _f64,
            "margin": _f64,  # non-inferiority margin in logloss units
            "is_non_inferior": _bool,
            "is_verdict": _bool,  # the smallest non-inferior k, or that of the last sweep
            "is_provisional": _bool,  # fewer than five seeds and no sweep to go by
            "verdict_from": _day,  # cycle date of the sweep that decided k; null: this night did
            "n_seeds": _i32,
            "n_periods": _i32,
        }
    ),
    # one row per algorithm other than the verdict: its best candidate on valid against the verdict's, paired by period
    "baseline_comparison": pa.schema(
        {
            "algorithm": _str,
            "model_id": _str,
            "k": _i32,
            "logloss": _f64,
            "delta_logloss": _f64,  # verdict minus baseline: negative is better than the baseline
            "delta_lo": _f64,
            "delta_hi": _f64,
            "delta_relative": _f64,  # of the baseline's logloss
            "delta_relative_lo": _f64,
            "delta_relative_hi": _f64,
            "n_periods": _i32,
        }
    ),
    # one row per lever and setting, on rolling-origin folds before the test periods; empty until `fieldmart levers` ran
    "lever_gain": pa.schema(
        {
            "lever": _str,
            "setting": _str,
            "k": _i32,
            "delta_logloss_relative": _f64,  # to the reference; negative is better
            "delta_lo": _f64,
            "delta_hi": _f64,
            "cpu_s": _f64,
            "cpu_ratio": _f64,
            "artifact_bytes": _i64,
            "n_folds": _i32,
            "n_periods": _i32,
            "n_seeds": _i32,
            "is_reference": _bool,
        }
    ),
    # one row per age of the scores in periods; the same test rows for all; empty until `fieldmart staleness` ran
    "staleness_cost": pa.schema(
        {
            "model_id": _str,  # the verdict's candidate; its rehearsal scored
            "lag_periods": _i32,  # periods by which the scores are older than what they are served for
            "period_days": _i32,
            "is_reference": _bool,  # lag 0
            "n": _i64,
            "conversions": _i64,
            "sum_p": _f64,
            "sum_logloss": _f64,
            "delta_logloss": _f64,  # per row, to lag 0: positive is worse; t intervals over periods, 95 %
            "delta_lo": _f64,
            "delta_hi": _f64,
            "delta_relative": _f64,  # of the logloss at lag 0
            "delta_relative_lo": _f64,
            "delta_relative_hi": _f64,
            "calibration_ratio_lo": _f64,
            "calibration_ratio_hi": _f64,
            "budget_top_n": _i32,  # entities contacted per candidate and period (conf/value.yml)
            "contacted": _i64,
            "captured": _i64,  # conversions among the contacted
            "captured_delta": _f64,  # to lag 0: negative is worse
            "captured_delta_lo": _f64,
            "captured_delta_hi": _f64,
            "captured_relative": _f64,  # of those captured at lag 0; null if none
            "captured_relative_lo": _f64,
            "captured_relative_hi": _f64,
            "test_from": _day,
            "test_through": _day,
            "n_periods": _i32,
        }
    ),
    # one row per opening of a set of test periods: who looks often finds something by chance
    "test_openings": pa.schema(
        {
            "contract": _str,
            "cycle_date": _day,
            "test_from": _day,
            "test_through": _day,
            "opened_at": _ts,
            "models": _i32,  # scored on it
            "nth": _i32,  # opening of these very periods, from 1
        }
    ),
    # one row per model and declared slice, on test; slices below min_n are reported but not judged
    "slice_metrics": pa.schema(
        {
            "model_id": _str,
            "slice_type": _str,
            "slice_value": _str,
            "n": _i64,
            "conversions": _i64,
            "sum_p": _f64,
            "sum_logloss": _f64,
            "calibration_ratio_lo": _f64,
            "calibration_ratio_hi": _f64,
            "min_n": _i64,
        }
    ),
    # one row per model and bin of the calibrated p, on test; bin edges are quantiles of the calib periods
    "calibration_bins": pa.schema(
        {
            "model_id": _str,
            "bin": _i32,
            "p_lo": _f64,
            "p_hi": _f64,
            "n": _i64,
            "conversions": _i64,
            "sum_p": _f64,
        }
    ),
    # one row per model and repeat: the same fixed block of pairs scored again and again
    "scoring_cost": pa.schema(
        {
            "model_id": _str,
            "k": _i32,
            "repeat": _i32,
            "rows": _i64,
            "wall_s": _f64,
            "cpu_s": _f64,
            "peak_rss_mib": _f64,
        }
    ),
    # one row: conf/rates.yml
    "rates": pa.schema(
        {"usd_per_cpu_hour": _f64, "usd_per_gib_hour": _f64, "usd_per_gib_month": _f64, "rates_sha": _str}
    ),
    # one row per subject, period and bin; the reference (training periods) has is_reference and no period
    "drift_bins": pa.schema(
        {
            "subject": _str,  # field | score
            "field": _str,
            "period": _day,
            "is_reference": _bool,
            "bin": _str,
            "bin_order": _i32,
            "n": _i64,
        }
    ),
    # one row per policy (model | prior | random), and test period: what contacting its top pairs would have earned
    "value_periods": pa.schema(
        {
            "policy": _str,
            "model_id": _str,
            "period": _day,
            "pairs": _i64,
            "contacted": _i64,
            "conversions": _f64,  # fractional for random: its expectation is computed exactly
            "sales_value": _f64,
            "margin_value": _f64,
            "contact_cost": _f64,
            "profit": _f64,
        }
    ),
    # one row per comparison of two policies; t interval over periods, 95 %
    "value_comparison": pa.schema(
        {
            "policy": _str,
            "baseline": _str,
            "objective": _str,  # conversions | sales_value | profit
            "total": _f64,
            "baseline_total": _f64,
            "delta": _f64,
            "delta_lo": _f64,
            "delta_hi": _f64,
            "n_periods": _i32,
            "assumption": _str,
        }
    ),
    # one row per entity x candidate of the cycle; of the last good release where the source is stale
    "scores": pa.schema(_scores),
    # one row per pair among the best of its entity or of its candidate; a rank beyond top_n is null
    "top_scores": pa.schema(_scores | {"rank_in_candidate": _i32}),
    # one row per scored entity: sums over all its candidates, not only over the best
    "score_entities": pa.schema(
        {
            "entity_id": _str,
            "match_id": _str,
            "candidates": _i64,  # scored
            "sum_p": _f64,
            "min_p": _f64,
            "max_p": _f64,
            "best_candidate_id": _str,
            "sum_oov_share": _f64,
        }
    ),
    # one row per scored candidate: sums over all entities that it is offered to
    "score_candidates": pa.schema(
        {
            "candidate_id": _str,
            "entities": _i64,  # scored pairs
            "sum_p": _f64,
            "max_p": _f64,
        }
    ),
    # one row per block of entities, measured inside the task that scored it
    "score_blocks": pa.schema(
        {
            "block": _i32,
            "entities": _i64,
            "pairs": _i64,
            "read_s": _f64,
            "prepare_s": _f64,
            "score_s": _f64,
            "rank_s": _f64,
            "write_s": _f64,
            "wall_s": _f64,
            "cpu_s": _f64,
            "jit_s": _f64,
            "peak_rss_mib": _f64,
            "bytes_written": _i64,
            "worker": _str,  # pid@host
            "model_loads": _i32,  # loads of the model in that process so far
            "is_resumed": _bool,  # found finished from an earlier attempt
        }
    ),
    # one row per attempt to publish and audit; a failed attempt is followed by the next best source
    "score_audits": pa.schema(
        {
            "attempt": _i32,
            "model_id": _str,
            "source": _str,
            "audit": _str,
            "value": _f64,  # null: nothing to measure
            "low": _f64,  # null: open
            "high": _f64,  # null: open
            "passed": _bool,
            "why": _str,
        }
    ),
    # one row: what is served
    "scoring": pa.schema(
        {
            "model_id": _str,
            "calibrator_id": _str,
            "source": _str,  # model | stale | prior
            "reason": _str,  # why stale or prior; empty for model
            "requested_model_id": _str,  # null if there is no champion
            "is_degraded": _bool,  # stale, or prior although there is a champion
            "score_date": _day,
            "scored_at": _ts,
            "data_through": _ts,
            "engine": _str,  # all_pairs | rows
            "entities": _i64,
            "candidates": _i64,
            "pairs": _i64,
            "blocks": _i64,
            "wall_s": _f64,
            "cpu_s": _f64,
            "peak_rss_mib": _f64,
            "skew": _f64,  # largest wall seconds of a block over their median
            "scores_sha256": _str,  # over the values, without scored_at
            "shadow_model_id": _str,  # null without a shadow
        }
    ),
    # one row for all pairs and one per decile of the serving p; empty without a shadow
    "shadow_comparison": pa.schema(
        {
            "model_id": _str,
            "shadow_model_id": _str,
            "scope": _str,  # all | decile
            "decile": _i32,  # 1 (lowest serving p) to 10; null for all
            "pairs": _i64,
            "mean_p": _f64,
            "mean_p_shadow": _f64,
            "correlation": _f64,  # of the raw scores
            "mean_abs_difference": _f64,  # of p
            "top_n_overlap": _f64,  # share of the serving top N of an entity in the shadow's; null for a decile
        }
    ),
    # one row per entity that must be scored
    "entities": pa.schema({"entity_id": _str, "match_id": _str, "candidates": _i64}),
    # one row per candidate on offer
    "candidates": pa.schema({"candidate_id": _str, "match_id": _str, "label": _str}),
    # one row per entry of the decision log that promotes, holds or refuses a model (all nights)
    "decisions": pa.schema(
        {
            "decision_id": _str,
            "seq": _i64,
            "cycle_date": _day,
            "decided_at": _ts,
            "verdict": _str,  # GO | HOLD | NO-GO
            "reason": _str,
            "k": _i32,
            "candidate_model_id": _str,
            "champion_model_id": _str,  # champion after this decision, null if there is none
            "gate_sha": _str,
            "evidence_sha": _str,
            "entry_hash": _str,
        }
    ),
    # one row per decision and gate rule
    "decision_rules": pa.schema(
        {
            "decision_id": _str,
            "seq": _i32,
            "rule": _str,
            "severity": _str,  # hard | soft
            "mart": _str,
            "metric": _str,
            "operator": _str,
            "threshold": _f64,
            "value": _f64,  # null: evidence missing
            "outcome": _str,  # pass | fail | missing
            "why": _str,
        }
    ),
    # one row: what this release is
    "release": pa.schema(
        {
            "release_id": _str,
            "contract": _str,
            "cycle_date": _day,
            "data_through": _ts,
            "run_id": _str,
            "verdict": _str,
            "decision_id": _str,
            "champion_model_id": _str,
            "score_source": _str,
            "data_note": _str,  # the contract's caveat on the data, shown wherever the data is shown
        }
    ),
}


def table(name: str, rows: list[dict] | pa.Table) -> pa.Table:
    """`rows` as an Arrow table of the declared schema of fact `name`.

    Raises ValueError on an unknown fact, a missing or extra column, or a value of the wrong type.
    """
    if name not in FACTS:
        raise ValueError(f"fact must be one of {sorted(FACTS)}, got {name!r}")
    schema = FACTS[name]
    for columns in {frozenset(rows.column_names)} if isinstance(rows, pa.Table) else {frozenset(row) for row in rows}:
        if columns != set(schema.names):
            missing, extra = sorted(set(schema.names) - columns), sorted(columns - set(schema.names))
            raise ValueError(f"fact {name}: missing columns {missing}, extra columns {extra}")
    try:
        if isinstance(rows, pa.Table):
            return rows.select(schema.names).cast(schema)
        _check_whole_numbers(name, schema, rows)
        return pa.Table.from_pylist(rows, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"fact {name}: {error}") from error


def _check_whole_numbers(name: str, schema: pa.Schema, rows: list[dict]) -> None:
    """Arrow would cut 1.5 to 1 without a word."""
    for column in (field.name for field in schema if pa.types.is_integer(field.type)):
        for row in rows:
            if isinstance(row[column], float) and not row[column].is_integer():
                raise ValueError(f"fact {name}: {column} must be a whole number, got {row[column]}")
