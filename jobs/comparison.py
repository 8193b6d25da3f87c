"""From sums per model and period to metrics with intervals and the comparison of k. No Spark, no disk."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs import intervals

ENOUGH_SEEDS = 5  # below it a verdict on k is provisional: seeds of one k differ by about 0.05 % of logloss


def with_intervals(
    period_sums: Sequence[dict[str, Any]], areas: dict[tuple[str, str], tuple[float | None, float | None]]
) -> list[dict[str, Any]]:
    """Rows of fact `model_metrics` from rows of fact `period_metrics` and AUC and PR-AUC by model and split."""
    found = []
    for model_id, split in sorted({(row["model_id"], row["split"]) for row in period_sums}):
        mine = [row for row in period_sums if (row["model_id"], row["split"]) == (model_id, split)]
        loss = intervals.ratio(_column(mine, "sum_logloss"), _column(mine, "n"))
        lo, hi = calibration_interval(mine)
        found.append(
            {
                "model_id": model_id,
                "split": split,
                **{name: sum(row[name] for row in mine) for name in _SUMS},
                "auc": areas[model_id, split][0],
                "pr_auc": areas[model_id, split][1],
                "logloss_lo": loss.lo,
                "logloss_hi": loss.hi,
                "calibration_ratio_lo": lo,
                "calibration_ratio_hi": hi,
                "n_periods": len(mine),
            }
        )
    return found


_SUMS = ("n", "conversions", "sum_p", "sum_logloss", "sum_squared_error")


def calibration_interval(members: Sequence[dict[str, Any]]) -> tuple[float | None, float | None]:
    """Interval of mean p over the observed rate (`intervals.calibration`); none without a conversion."""
    conversions = _column(members, "conversions")
    if conversions.sum() == 0:
        return None, None
    found = intervals.calibration(_column(members, "sum_p"), conversions)
    return found.lo, found.hi


def compare_k(
    period_sums: Sequence[dict[str, Any]],
    cards: Sequence[dict[str, Any]],
    margin: float,
    shipping_seed: int,
    decided: Decided | None = None,
    infeasible: Mapping[int, str] | None = None,
) -> list[dict[str, Any]]:
    """Rows of fact `k_comparison`: every k of FFM against the feasible one with the lowest test logloss.

    A k's loss is the mean over its seeds, and differences are paired by seed and period. Their intervals hold the
    spread over periods and that over seeds. `margin` is relative to the best logloss. The verdict is the smallest
    feasible k whose simultaneous upper bound stays within the margin; the best k itself always does. With fewer than
    ENOUGH_SEEDS seeds it is that of `decided`, the last sweep, if that k is among those compared and feasible; without
    one it is provisional. `infeasible`: k -> which limit it breaks. If no k is feasible there is no verdict.
    """
    infeasible = infeasible or {}
    tests = _tests(period_sums, [card for card in cards if card["algorithm"] == "ffm"])
    ks, seeds = sorted({k for k, _ in tests}), sorted({seed for _, seed in tests})
    n = next(iter(tests.values()))["n"]
    loss = {k: np.mean([tests[k, seed]["loss"].sum() for seed in seeds]) / n.sum() for k in ks}
    feasible = [k for k in ks if k not in infeasible]
    best = min(feasible or ks, key=lambda k: loss[k])
    enough = len(seeds) >= ENOUGH_SEEDS
    inherited = decided if decided and decided.k in feasible and not enough else None
    found = []
    for k in ks:
        gaps = np.array([tests[k, seed]["loss"] - tests[best, seed]["loss"] for seed in seeds])
        delta, se_seed = _delta(gaps, n, 0.95)
        every = _delta(gaps, n, intervals.simultaneous(0.95, len(ks) - 1))[0]
        allowed = float(margin * loss[best])
        found.append(
            {
                "k": k,
                "model_id": tests[k, shipping_seed]["model_id"],
                "best_k": best,
                "best_model_id": tests[best, shipping_seed]["model_id"],
                "logloss": float(loss[k]),
                "delta_logloss": delta.value,
                "se_seed": se_seed,
                "se_period": intervals.ratio(gaps.mean(axis=0), n).error,
                "delta_lo": delta.lo,
                "delta_hi": delta.hi,
                "delta_lo_simultaneous": every.lo,
                "delta_hi_simultaneous": every.hi,
                "margin": allowed,
                "is_non_inferior": k == best or (every.hi is not None and every.hi <= allowed),
                "infeasible_reason": infeasible.get(k),
                "is_verdict": False,
                "is_provisional": not enough and inherited is None,
                "verdict_from": inherited.cycle_date if inherited else None,
                "n_seeds": len(seeds),
                "n_periods": len(n),
            }
        )
    fit = [row["k"] for row in found if row["is_non_inferior"] and row["k"] in feasible]
    wanted = inherited.k if inherited else next(iter(fit), None)
    for row in found:
        row["is_verdict"] = row["k"] == wanted
    return found


def shown(compared: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row of fact `k_comparison` whose model the night's other evidence is about: the verdict's, or the best k's
    where no k is feasible."""
    verdict = next((row for row in compared if row["is_verdict"]), None)
    return verdict or next(row for row in compared if row["k"] == row["best_k"])


def compare_incumbent(
    period_sums: Sequence[dict[str, Any]], challenger: str, incumbent: str, margin: float
) -> dict[str, Any]:
    """Test logloss of model `challenger` minus that of `incumbent`, paired by period, with its 95 % interval; `margin`
    is relative to the incumbent's logloss and returned in its units."""
    ours, theirs = (_rows(period_sums, model_id, "test") for model_id in (challenger, incumbent))
    n, mine, other = _column(ours, "n"), _column(ours, "sum_logloss"), _column(theirs, "sum_logloss")
    delta = intervals.ratio(mine - other, n)
    return {
        "challenger_logloss": float(mine.sum() / n.sum()),
        "incumbent_logloss": float(other.sum() / n.sum()),
        "delta_logloss": delta.value,
        "delta_lo": delta.lo,
        "delta_hi": delta.hi,
        "delta_se": delta.error,
        "margin": float(margin * other.sum() / n.sum()),
        "n": int(n.sum()),
        "n_periods": len(n),
    }


@dataclass(frozen=True)
class Decided:
    """The verdict of a sweep and the date of its cycle."""

    k: int
    cycle_date: dt.date


def _tests(
    period_sums: Sequence[dict[str, Any]], cards: Sequence[dict[str, Any]]
) -> dict[tuple[int, int], dict[str, Any]]:
    """By k and seed: the model's id and, by period, its test rows and summed logloss."""
    found = {}
    for card in cards:
        rows = _rows(period_sums, card["model_id"], "test")
        hyper = card["task"]["hyperparameters"]
        arrays = {"n": _column(rows, "n"), "loss": _column(rows, "sum_logloss")}
        found[hyper["k"], hyper["seed"]] = {"model_id": card["model_id"], **arrays}
    return found


def _delta(gaps: np.ndarray, n: np.ndarray, level: float) -> tuple[intervals.Interval, float | None]:
    """Mean difference of `gaps` [seeds, periods] over `n` [periods] rows with its interval, and its seed error."""
    over_periods, seeds = intervals.ratio(gaps.mean(axis=0), n), len(gaps)
    errors = [] if over_periods.error is None else [(over_periods.error, len(n) - 1)]
    se_seed = None
    if seeds > 1:
        se_seed = float((gaps.sum(axis=1) / n.sum()).std(ddof=1) / np.sqrt(seeds))
        errors += [(se_seed, seeds - 1)] if errors else []
    return intervals.combined(over_periods.value, errors, level), se_seed


def compare_baselines(
    period_sums: Sequence[dict[str, Any]], cards: Sequence[dict[str, Any]], verdict: str
) -> list[dict[str, Any]]:
    """Rows of fact `baseline_comparison`: the verdict's model against every other algorithm, paired by test period.

    Of several models of one algorithm the one that is best on valid is shown.
    """
    ours, found = _rows(period_sums, verdict, "test"), []
    n = _column(ours, "n")
    for algorithm in sorted({card["algorithm"] for card in cards} - {"ffm"}):
        mine = [card for card in cards if card["algorithm"] == algorithm]
        card = min(mine, key=lambda c: sum(row["sum_logloss"] for row in _rows(period_sums, c["model_id"], "valid")))
        theirs = _column(_rows(period_sums, card["model_id"], "test"), "sum_logloss")
        gap = _column(ours, "sum_logloss") - theirs
        delta, relative = intervals.ratio(gap, n), intervals.ratio(gap, theirs)
        found.append(
            {
                "algorithm": algorithm,
                "model_id": card["model_id"],
                "k": card["task"]["hyperparameters"].get("k", 0),
                "logloss": float(theirs.sum() / n.sum()),
                "delta_logloss": delta.value,
                "delta_lo": delta.lo,
                "delta_hi": delta.hi,
                "delta_relative": relative.value,
                "delta_relative_lo": relative.lo,
                "delta_relative_hi": relative.hi,
                "n_periods": len(n),
            }
        )
    return found


def _rows(period_sums: Sequence[dict[str, Any]], model_id: str, split: str) -> list[dict[str, Any]]:
    """The model's rows of one part, in time order."""
    mine = [row for row in period_sums if row["model_id"] == model_id and row["split"] == split]
    return sorted(mine, key=lambda row: row["period"])


def _column(rows: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], np.float64)
