"""The declared schemas of the facts: the Parquet data sets that jobs write and dbt reads as sources.

A job may only write a fact through `table`, which refuses missing, extra or mistyped columns, so what dbt
finds is what stands here. Periods are dates (the day a period starts). Sizes are bytes, times are seconds.
"""

from __future__ import annotations

import datetime as dt

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
            "jvm": _str,
            "machine": _str,
            "cores": _i32,
            "env_hash": _str,  # of lock, python, spark, jvm and machine
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
    # one row per event of the operations log up to the release: backups, drills, guards, publications, probes
    "operations": pa.schema(
        {
            "happened_at": _ts,
            "kind": _str,
            "ok": _bool,
            "seconds": _f64,  # it took; null where nothing is timed
            "bytes": _i64,
            "rpo_s": _f64,  # age of the newest thing a backup held when all else was lost
            "detail": _str,
        }
    ),
    # one row per cycle of the contract up to this one; what a later cycle changed of an earlier one counts
    "nights": pa.schema(
        {
            "contract": _str,
            "cycle_date": _day,
            "is_own": _bool,  # of this release: its publication is still to come when this is written
            "is_replay": _bool,  # ran so late after its date that it is history run again
            "started_at": _ts,
            "due_at": _ts,  # when its scores have to be ready
            "published_at": _ts,  # when they first were; null: not (yet)
            "release_id": _str,
            "wall_s": _f64,  # of all stages
            "cpu_s": _f64,  # of training and scoring, measured inside the workers
            "peak_rss_mib": _f64,  # the largest of driver and workers
            "verdict": _str,
            "k": _i32,  # of the model judged
            "champion_model_id": _str,  # that scored; null without one
            "score_source": _str,  # model | stale | prior
            "is_degraded": _bool,
            "logloss": _f64,  # of the judged k on its test periods
            "pairs": _i64,  # scored
        }
    ),
    # one row per cycle of the contract up to this one, and stage; `publish: <part>` are parts of publish
    "night_stages": pa.schema(
        {
            "contract": _str,
            "cycle_date": _day,
            "seq": _i32,
            "stage": _str,
            "is_part": _bool,  # of the stage before the colon
            "status": _str,  # done | reused
            "started_at": _ts,
            "wall_s": _f64,
            "rows": _i64,
            "bytes_written": _i64,
            "peak_rss_mib": _f64,
        }
    ),
    # one row per objective of conf/slo.yml
    "slo_objectives": pa.schema(
        {
            "slo": _str,  # scores_ready | mart_readable | recovery_point | recovery_time
            "title": _str,
            "threshold": _f64,  # what a good observation is at most, in `unit`
            "unit": _str,
            "objective": _f64,  # share of observations that have to be good
            "window_days": _i32,
            "regression_alarm": _f64,  # growth of the last value over those before that is an alarm; null: none
            "as_of": _ts,  # the window ends here
            "slo_sha": _str,
        }
    ),
    # one row per earlier period whose served scores met exposures since; sums over exposures that had a score
    "live_performance": pa.schema(
        {
            "contract": _str,
            "period": _day,
            "release_id": _str,  # that readers were pointed to last in the period
            "model_id": _str,
            "score_source": _str,
            "score_date": _day,
            "exposures": _i64,
            "n": _i64,  # of them with a score
            "entities": _i64,
            "sum_p": _f64,
            "var_conversions": _f64,  # sum of p (1 - p)
            "sum_entropy": _f64,  # expected sum of logloss, if p is right
            "var_logloss": _f64,
            "is_mature": _bool,
            "conversions": _i64,  # known by now; final once mature
            # the rest is null until the labels are final
            "sum_logloss": _f64,
            "entity_sq_conversions": _f64,  # sum over entities of (conversions - sum of p) squared
            "entity_sq_logloss": _f64,  # the same of logloss less its expectation
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
            "conversions_first": _i64,  # known when the period ended
            "conversions_former": _i64,  # known one period before the cycle's own instant
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
            # p = sigmoid(slope * logit + intercept), as learned on the calib periods; null for other calibrators
            "calibrator_slope": _f64,
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
            "pr_auc": _f64,  # average precision
            "top_n": _i32,  # of the ranking metrics: places per candidate and period
            "sum_ndcg": _f64,  # NDCG at top_n, summed over the candidates with a conversion
            "sum_map": _f64,  # average precision at top_n, likewise
            "ranked_groups": _i64,  # those candidates
            "captured": _i64,  # conversions among the first top_n entities of every candidate
            "rankable": _i64,  # conversions of pairs that may be targeted
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
            "delta_lo_entity": _f64,  # rows clustered by entity instead of by period
            "delta_hi_entity": _f64,
            "is_non_inferior": _bool,
            "infeasible_reason": _str,  # the limit of the gate that it breaks; null: none
            "is_verdict": _bool,  # the smallest feasible non-inferior k, or the last sweep's; none if all break one
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
    # one row: the model of the chosen k against what serves if nothing is promoted, both by rehearsals that learned
    # from no test row
    "incumbent_comparison": pa.schema(
        {
            "challenger_model_id": _str,
            "challenger_k": _i32,
            "incumbent_model_id": _str,
            "incumbent_algorithm": _str,
            "incumbent_k": _i32,
            "incumbent_source": _str,  # champion | prior
            "challenger_logloss": _f64,
            "incumbent_logloss": _f64,
            "delta_logloss": _f64,  # challenger minus incumbent: negative is better than the incumbent
            "delta_lo": _f64,  # 95 %, t over periods
            "delta_hi": _f64,
            "delta_se": _f64,
            "delta_lo_entity": _f64,  # 95 %, clustered by entity
            "delta_hi_entity": _f64,
            "margin": _f64,  # non-inferiority margin, nats: the gate's share of the incumbent's logloss
            "n": _i64,
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
    # one row per group of label.delay_by (and `all`) and full days since exposure: Kaplan-Meier as of the cycle
    "label_delay": pa.schema(
        {
            "grp": _str,
            "delay_days": _i32,  # 0 to the horizon: the label's window, or the period where the window ends with it
            "at_risk": _i64,  # exposures watched that long that had not converted before
            "events": _i64,  # of them converted within the day that ends then
            "converted": _f64,  # share of all exposures that converts within so many days
            "converted_lo": _f64,  # 95 %
            "converted_hi": _f64,
            "completeness": _f64,  # share of the final conversions that has come; null while nobody knows
            "completeness_lo": _f64,
            "completeness_hi": _f64,
        }
    ),
    # one row per period with exposures: its label when the period ended, as of the cycle and in the end
    "label_settling": pa.schema(
        {
            "period": _day,
            "exposures": _i64,
            "immature": _i64,  # not converted and the window still open: no negatives
            "conversions_first": _i64,  # by the end of the period
            "conversions": _i64,  # by the cycle's instant
            "conversions_late": _i64,  # after the window, which never count
            "expected": _f64,  # conversions in the end; null where nothing can be said
            "expected_lo": _f64,  # 95 %
            "expected_hi": _f64,
        }
    ),
    # one row per way to label what is not final yet; empty until `fieldmart delayed-feedback` ran
    "delayed_feedback": pa.schema(
        {
            "method": _str,  # mature_only | naive | fake_negatives | importance_weights | oracle
            "is_reference": _bool,  # mature_only
            "is_oracle": _bool,  # knows the final labels, which nobody does
            "n": _i64,  # exposures judged by their final labels, the same for all
            "conversions": _i64,
            "sum_p": _f64,  # means over the seeds
            "sum_logloss": _f64,
            "delta_logloss": _f64,  # per row, to the reference: negative is better; t intervals over dates, 95 %
            "delta_logloss_lo": _f64,
            "delta_logloss_hi": _f64,
            "delta_relative": _f64,  # of the reference's logloss
            "delta_relative_lo": _f64,
            "delta_relative_hi": _f64,
            "calibration_ratio_lo": _f64,
            "calibration_ratio_hi": _f64,
            "delta_calibration": _f64,  # calibration ratio minus the reference's
            "delta_calibration_lo": _f64,
            "delta_calibration_hi": _f64,
            "train_rows": _f64,  # distinct exposures, mean over the dates
            "train_conversions": _f64,
            "as_of_from": _day,
            "as_of_through": _day,
            "n_dates": _i32,
            "n_seeds": _i32,
        }
    ),
    # one row per audit and subject (a field, the keys, the model), on rows of valid and calib; 95 % intervals clustered
    # by entity, of shuffled_labels over the shuffles
    "leakage": pa.schema(
        {
            "model_id": _str,
            "audit": _str,  # field_alone | field_fallen | keys_only | shuffled_labels
            "subject": _str,
            "value": _f64,  # null where the rows have one class only
            "value_lo": _f64,
            "value_hi": _f64,
            "allowed": _f64,
            "passed": _bool,  # null: nothing to measure
            "why": _str,
        }
    ),
    # one row per version of the chosen model and test period: the same rows for both
    "model_age": pa.schema(
        {
            "model_id": _str,
            "version": _str,  # newer (its rehearsal) | older (the candidate, which did not learn from valid and calib)
            "period": _day,
            "train_through": _day,
            "age_periods": _i32,  # from the last period it learned from
            "period_days": _i32,
            "n": _i64,
            "conversions": _i64,
            "sum_p": _f64,
            "sum_logloss": _f64,
        }
    ),
    # one row per way to see the effect of age; 95 % t intervals over test periods
    "model_age_effect": pa.schema(
        {
            "model_id": _str,
            "kind": _str,  # paired (older minus newer, same rows) | course (over the test periods, calendar included)
            "age_periods": _i32,  # more, for the change
            "period_days": _i32,
            "change": _f64,  # of the loss, as a share of the newer version's: positive is worse
            "change_lo": _f64,
            "change_hi": _f64,
            "n_periods": _i32,
        }
    ),
    # one row per comparison of two sets of periods and field, or all fields: AUC of telling their rows apart, on
    # entities that were not learned from; 95 % intervals clustered by entity
    "domain_shift": pa.schema(
        {
            "comparison": _str,  # test (against the last training periods) | alternate (the reference) | adjacent
            "field": _str,  # null: all fields together
            "auc": _f64,
            "auc_lo": _f64,
            "auc_hi": _f64,
            "n": _i64,
            "periods": _i32,
            "reference_periods": _i32,
        }
    ),
    # one row per group of people that the contract declares, on test; empty if it declares none
    "fairness": pa.schema(
        {
            "model_id": _str,
            "attribute": _str,
            "group_value": _str,
            "entities": _i64,
            "n": _i64,
            "conversions": _i64,
            "sum_p": _f64,
            "calibration_ratio_lo": _f64,  # 95 %, t over periods
            "calibration_ratio_hi": _f64,
            "calibration_ratio_lo_entity": _f64,  # 95 %, clustered by entity
            "calibration_ratio_hi_entity": _f64,
            "auc": _f64,  # within the group
            "auc_lo": _f64,
            "auc_hi": _f64,
            "top_n": _i32,  # entities that count as contacted per candidate and period: of the target, or 20 instead
            "contacted": _i64,
            "captured": _i64,  # conversions among the contacted
            "min_n": _i64,
        }
    ),
    # one row per group: how well the other fields guess an entity's group, on entities that were not learned from
    "fairness_proxy": pa.schema(
        {
            "model_id": _str,
            "attribute": _str,
            "group_value": _str,
            "groups": _i32,  # that were told apart
            "entities": _i64,
            "auc": _f64,  # this group against the others
            "auc_lo": _f64,
            "auc_hi": _f64,
            "recall": _f64,  # share of its entities that are guessed right
            "balanced_accuracy": _f64,  # mean recall of the attribute's groups; chance is 1 / groups
            "fields": _i32,  # guessed from
            "all_fields": _i32,
        }
    ),
    # one row per model and term of its logit (field alone, or pair of fields), on test rows
    "field_pairs": pa.schema(
        {
            "model_id": _str,
            "k": _i32,
            "field_a": _str,
            "field_b": _str,  # null: the linear term of field_a
            "share": _f64,  # of the variance of the logits; all terms of a model sum to 1
            "variance": _f64,  # of the term itself
            "mean_abs": _f64,
            "logit_variance": _f64,
            "n": _i64,
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
            "entities": _i64,  # different ones among the rows; one can be in several slices of a type
            "n": _i64,
            "conversions": _i64,
            "sum_p": _f64,
            "sum_logloss": _f64,
            "calibration_ratio_lo": _f64,
            "calibration_ratio_hi": _f64,
            "n_periods": _i32,
            "p_value": _f64,  # that expected and observed conversions agree, over periods; null for one period
            "p_adjusted": _f64,  # Benjamini-Hochberg over the model's slices with min_n rows; null below
            "min_n": _i64,
        }
    ),
    # one row per model and pair of slices that the first half of the test periods says is off; p is scaled to the rate
    # of each period, so a pair is off against the whole
    "slice_discovery": pa.schema(
        {
            "model_id": _str,
            "slice_a": _str,  # "slice = value"
            "slice_b": _str,
            "search_n": _i64,
            "search_conversions": _i64,
            "search_sum_p": _f64,
            "confirm_n": _i64,  # of the second half
            "confirm_conversions": _i64,
            "confirm_sum_p": _f64,
            "search_p_adjusted": _f64,  # over all pairs that were searched
            "confirm_p_adjusted": _f64,  # over the pairs that were found
            "is_confirmed": _bool,
            "n_searched": _i32,
        }
    ),
    # one row per model of the seed that ships and method of calibration; differences are to Platt's, paired by period
    "calibrator_comparison": pa.schema(
        {
            "model_id": _str,
            "method": _str,  # platt | beta | isotonic | venn_abers
            "is_chosen": _bool,  # by the calib periods alone
            "tolerance": _f64,  # of Platt's logloss: what another method must gain at least
            "calib_n": _i64,  # rows of calib periods that earlier calib periods predicted; 0: there were none
            "calib_periods": _i32,
            "calib_logloss": _f64,
            "calib_delta": _f64,
            "calib_delta_lo": _f64,
            "calib_delta_hi": _f64,
            "test_n": _i64,
            "test_periods": _i32,
            "test_logloss": _f64,
            "test_brier": _f64,
            "test_squared_error": _f64,  # debiased squared calibration error; can be negative by chance
            "test_delta": _f64,
            "test_delta_lo": _f64,
            "test_delta_hi": _f64,
            "why": _str,
        }
    ),
    # one row per model of the seed that ships and corner of its CORP curve on test
    "reliability_curve": pa.schema(
        {
            "model_id": _str,
            "point": _i32,  # from 0, in order of p
            "p": _f64,
            "observed_rate": _f64,
            "band_lo": _f64,  # where the curve lies in 95 of 100 samples whose rows convert with their p
            "band_hi": _f64,
            "n": _i64,  # rows above the p of the point before, up to this one
        }
    ),
    # one row per model of the seed that ships, on test
    "calibration_error": pa.schema(
        {
            "model_id": _str,
            "n": _i64,
            "conversions": _i64,
            "bins": _i32,
            "ece_raw": _f64,
            "ece_raw_if_perfect": _f64,  # mean of samples whose rows convert with their p
            "squared_error": _f64,  # debiased; can be negative by chance
            "squared_error_lo": _f64,  # 95 %, jackknife over test periods
            "squared_error_hi": _f64,
            "miscalibration": _f64,  # logloss = miscalibration - discrimination + uncertainty
            "discrimination": _f64,
            "uncertainty": _f64,
            "logloss": _f64,
            "n_periods": _i32,
        }
    ),
    # one row per level and value: observed over expected conversions on test, shrunk to the level above
    "slice_shrinkage": pa.schema(
        {
            "model_id": _str,
            "level": _str,  # all, then fields of prior.candidate_levels from coarse to fine
            "depth": _i32,  # 0: all
            "value": _str,  # of unseen ones together: never seen in training
            "parent": _str,  # value of the level above that all its rows have; null where they have several
            "is_unseen": _bool,
            "entities": _i64,  # different ones among the rows
            "n": _i64,
            "conversions": _i64,
            "sum_p": _f64,
            "raw_ratio": _f64,  # conversions / sum_p
            "shrunk_ratio": _f64,
            "weight": _f64,  # of the own ratio: sum_p / (sum_p + strength)
            "parent_ratio": _f64,
            "strength": _f64,  # expected conversions
        }
    ),
    # one row per level and correction: learned on the first half of the test periods, judged on the second
    "shrinkage_gain": pa.schema(
        {
            "model_id": _str,
            "level": _str,
            "correction": _str,  # none | whole | raw | shrunk
            "error": _f64,  # sum over periods and values of (conversions - corrected)^2 / max(sum_p, 1)
            "vs_none": _f64,  # relative difference of the error to no correction, paired by period
            "vs_none_lo": _f64,
            "vs_none_hi": _f64,
            "vs_raw": _f64,
            "vs_raw_lo": _f64,
            "vs_raw_hi": _f64,
            "learned_periods": _i32,
            "n_periods": _i32,
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
    # one row per policy (model | champion | prior | random | perfect) and test period: what contacting its top pairs
    # would have earned
    "value_periods": pa.schema(
        {
            "policy": _str,
            "model_id": _str,  # null for random and perfect
            "period": _day,
            "pairs": _i64,
            "contacted": _i64,
            "conversions": _f64,  # fractional for random: its expectation is computed exactly
            "sales_value": _f64,
            "margin_value": _f64,
            "contact_cost": _f64,
            "wrong_contact_cost": _f64,
            "profit": _f64,
            "assumption": _str,
        }
    ),
    # one row per comparison of two policies and objective; delta_lo and _hi: 95 % t interval over periods; _p5 to _p95:
    # distribution with households redrawn and periods as variable as they were
    "value_comparison": pa.schema(
        {
            "policy": _str,
            "baseline": _str,  # perfect is an upper bound: it knows what is bought
            "objective": _str,  # conversions | sales_value | profit
            "total": _f64,
            "baseline_total": _f64,
            "delta": _f64,
            "delta_lo": _f64,
            "delta_hi": _f64,
            "total_p5": _f64,
            "total_p50": _f64,
            "total_p95": _f64,
            "delta_p5": _f64,
            "delta_p50": _f64,
            "delta_p95": _f64,
            "n_periods": _i32,
            "n_clusters": _i32,
            "replicates": _i32,
            "assumption": _str,
        }
    ),
    # one row per policy and budget: totals over the test periods; intervals are t intervals over periods, 95 %
    "value_curve": pa.schema(
        {
            "policy": _str,
            "model_id": _str,
            "budget": _i64,  # contacts per candidate and period, or per period
            "is_target": _bool,
            "contacts_per_period": _f64,
            "pairs": _i64,
            "conversions_of_all": _f64,
            "contacted": _f64,
            "conversions": _f64,
            "sales_value": _f64,
            "profit": _f64,
            "profit_lo": _f64,
            "profit_hi": _f64,
            "over_random": _f64,  # profit beyond random contacts at the same budget
            "over_random_lo": _f64,
            "over_random_hi": _f64,
            "over_prior": _f64,
            "over_prior_lo": _f64,
            "over_prior_hi": _f64,
            "n_periods": _i32,
            "assumption": _str,
        }
    ),
    # one row per baseline, margin and contact cost: the model's profit beyond the baseline's at the budget
    "value_sensitivity": pa.schema(
        {
            "baseline": _str,  # nobody (no contacts) | champion | prior | random
            "margin_rate": _f64,
            "contact_cost": _f64,
            "delta": _f64,
            "delta_lo": _f64,
            "delta_hi": _f64,
            "break_even_margin": _f64,  # where delta is 0, all else as in the row; null where no sale differs
            "break_even_contact_cost": _f64,  # null where both contact equally many
            "is_assumed": _bool,  # margin and cost of conf/value.yml
            "n_periods": _i32,
            "assumption": _str,
        }
    ),
    # one row per FFM candidate of the seed that ships and objective, against the chosen one
    "value_by_k": pa.schema(
        {
            "model_id": _str,
            "k": _i32,
            "objective": _str,
            "total": _f64,
            "delta": _f64,
            "delta_lo": _f64,
            "delta_hi": _f64,
            "n_periods": _i32,
            "assumption": _str,
        }
    ),
    # one row per ranking policy and tenth of each period's eligible pairs by falling p
    "value_deciles": pa.schema(
        {
            "policy": _str,
            "model_id": _str,
            "decile": _i32,  # 1 = highest p
            "n": _i64,
            "conversions": _i64,
            "sum_p": _f64,
            "sales_value": _f64,
            "observed_rate_lo": _f64,
            "observed_rate_hi": _f64,
            "assumption": _str,
        }
    ),
    # one row per ranking policy and kind of utility; no rows where the contract has no cost column
    "auction_utility": pa.schema(
        {
            "policy": _str,
            "model_id": _str,
            "kind": _str,  # plain | expected
            "beta": _f64,  # of expected utility; null for plain
            "won": _i64,
            "utility": _f64,
            "delta": _f64,  # to the prior
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
            "decided_by": _str,  # account; null in entries from before it was logged
            "verdict": _str,  # GO | HOLD | NO-GO
            "reason": _str,
            "next_action": _str,  # promote | wait | look | rescope; null in entries from before it was logged
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
            "outcome": _str,  # pass | fail | missing | waived
            "why": _str,
            "note": _str,  # what would change the outcome, or who waived the rule
            "periods_needed": _i32,  # more of them, for 80 % power; null where that is not the question
            "days_needed": _i32,
        }
    ),
    # one row per approval of a decision HOLD and per waiver of a soft rule (all nights)
    # one row per change of what an alias names, all contracts' own, by the wall clock
    "alias_changes": pa.schema(
        {
            "contract": _str,
            "alias": _str,  # champion | challenger | live: what readers are pointed to
            "seq": _i64,  # from 1 for each contract and alias
            "changed_at": _ts,
            "cause": _str,  # decision | approval | publish | rollback | guard
            "entry_id": _str,  # of the log; null of the release this fact is part of, which is logged after it
            "note": _str,  # what the entry says
            "model_id": _str,  # null where the alias names none any more
            "release_id": _str,  # of alias live
            "decision_id": _str,
            "cycle_date": _day,
        }
    ),
    "approvals": pa.schema(
        {
            "entry_id": _str,
            "seq": _i64,
            "kind": _str,  # approval | waiver
            "cycle_date": _day,  # decided on; of a waiver: the first cycle it counts for
            "given_at": _ts,
            "given_by": _str,
            "why": _str,
            "decision_id": _str,  # null of a waiver
            "promotes": _str,
            "rule": _str,  # null of an approval
            "until": _day,
            "gate_sha": _str,
            "entry_hash": _str,
        }
    ),
    # one row: what this release is
    "release": pa.schema(
        {
            "release_id": _str,
            "contract": _str,
            "cycle_date": _day,
            "data_through": _ts,
            "data_through_day": _day,  # its day on the contract's clock
            "run_id": _str,
            "verdict": _str,
            "decision_id": _str,
            "champion_model_id": _str,
            "score_source": _str,
            "data_note": _str,  # the contract's caveat on the data, shown wherever the data is shown
        }
    ),
}


def utc(moment: dt.datetime | str) -> dt.datetime:
    """An aware instant, or one in ISO format as the log writes it, as the naive UTC timestamp that facts hold."""
    moment = dt.datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return moment.astimezone(dt.UTC).replace(tzinfo=None)


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
