"""From sums per model and period to metrics with intervals and the comparison of k. No Spark, no disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs import intervals

ENOUGH_SEEDS = 5  # below it a verdict on k is provisional: seeds of one k differ by about 0.05 % of logloss


def with_intervals(
    period_sums: Sequence[dict[str, Any]], auc: dict[tuple[str, str], float | None]
) -> list[dict[str, Any]]:
    """Rows of fact `model_metrics` from rows of fact `period_metrics`."""
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
                "auc": auc[model_id, split],
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
    """Interval of mean p over the observed rate; none without a conversion."""
    conversions = _column(members, "conversions")
    if conversions.sum() == 0:
        return None, None
    found = intervals.ratio(_column(members, "sum_p"), conversions)
    return found.lo, found.hi


def compare_k(
    period_sums: Sequence[dict[str, Any]], cards: Sequence[dict[str, Any]], margin: float
) -> list[dict[str, Any]]:
    """Rows of fact `k_comparison`: every FFM candidate against the one with the lowest test logloss, paired by period.

    `margin` is relative to the best logloss. The verdict is the smallest k whose simultaneous upper bound stays within
    the margin; the best k itself always does.
    """
    ffm = [card for card in cards if card["algorithm"] == "ffm"]
    tests = {
        card["model_id"]: sorted(
            (row for row in period_sums if row["model_id"] == card["model_id"] and row["split"] == "test"),
            key=lambda row: row["period"],
        )
        for card in ffm
    }
    loss = {name: _column(rows, "sum_logloss").sum() / _column(rows, "n").sum() for name, rows in tests.items()}
    best = min(ffm, key=lambda card: loss[card["model_id"]])
    best_rows = tests[best["model_id"]]
    allowed = margin * loss[best["model_id"]]
    seeds = len({card["lineage"]["hyperparameters"]["seed"] for card in ffm})
    found = []
    for card in sorted(ffm, key=_k):
        rows = tests[card["model_id"]]
        gap, n = _column(rows, "sum_logloss") - _column(best_rows, "sum_logloss"), _column(rows, "n")
        one = intervals.ratio(gap, n)
        all_k = intervals.ratio(gap, n, intervals.simultaneous(0.95, len(ffm) - 1))
        found.append(
            {
                "model_id": card["model_id"],
                "k": _k(card),
                "best_model_id": best["model_id"],
                "best_k": _k(best),
                "delta_logloss": one.value,
                "delta_lo": one.lo,
                "delta_hi": one.hi,
                "delta_lo_simultaneous": all_k.lo,
                "delta_hi_simultaneous": all_k.hi,
                "margin": allowed,
                "is_non_inferior": card is best or (all_k.hi is not None and all_k.hi <= allowed),
                "is_verdict": False,
                "is_provisional": seeds < ENOUGH_SEEDS,
                "n_seeds": seeds,
                "n_periods": len(rows),
            }
        )
    next(row for row in found if row["is_non_inferior"])["is_verdict"] = True
    return found


def _k(card: dict[str, Any]) -> int:
    return card["lineage"]["hyperparameters"]["k"]


def _column(rows: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], np.float64)
