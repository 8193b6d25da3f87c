"""Small, consistent facts on calibration: methods, reliability, errors and shrunk slices of one made-up model."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffm_udf.metrics import row_logloss

Rows = list[dict[str, Any]]
METHODS = ("platt", "beta", "isotonic", "venn_abers")
BINS = 10


def comparison(model_id: str, y: np.ndarray, p: np.ndarray, periods: int) -> Rows:
    """Fact `calibrator_comparison`: Platt's is chosen, beta is as good, the tables surely lose on test."""
    loss, why = (
        float(row_logloss(y, p).mean()),
        "1 calib period could be predicted from earlier ones; an interval needs 2",
    )
    return [
        {"model_id": model_id, "method": method, "is_chosen": method == "platt", "tolerance": 0.001, "why": why}
        | {"calib_n": 600, "calib_periods": 1, "calib_logloss": 0.3 + gap, "calib_delta": gap}
        | {"calib_delta_lo": None, "calib_delta_hi": None, "test_n": len(y), "test_periods": periods}
        | {"test_logloss": loss + gap, "test_brier": float(((p - y) ** 2).mean()), "test_squared_error": 4e-6 + gap}
        | {"test_delta": gap, "test_delta_lo": gap - half, "test_delta_hi": gap + half}
        for method, gap, half in zip(METHODS, (0.0, 1e-5, 4e-4, 3e-4), (0.0, 5e-5, 1e-4, 1e-4), strict=True)
    ]


def curve(model_id: str, y: np.ndarray, p: np.ndarray) -> Rows:
    """Fact `reliability_curve`: a point per tenth of the rows, at its highest p."""
    parts, rate, found = np.array_split(np.argsort(p, kind="stable"), BINS), 0.0, []
    for point, part in enumerate(parts):
        rate = max(rate, float(y[part].mean()))
        top, half = float(p[part].max()), 2 * float(np.sqrt(p[part].mean() / len(part)))
        found.append(
            {"model_id": model_id, "point": point, "p": top, "observed_rate": rate, "n": len(part)}
            | {"band_lo": max(top - half, 0.0), "band_hi": min(top + half, 1.0)}
        )
    return found


def error(model_id: str, y: np.ndarray, p: np.ndarray, periods: int) -> Rows:
    """Fact `calibration_error`; the parts of the logloss add up."""
    rate, loss = float(y.mean()), float(row_logloss(y, p).mean())
    uncertainty = float(row_logloss(y, np.full(len(y), rate)).mean())
    return [
        {"model_id": model_id, "n": len(y), "conversions": int(y.sum()), "bins": BINS, "n_periods": periods}
        | {"ece_raw": 0.004, "ece_raw_if_perfect": 0.003, "squared_error": 4e-6}
        | {"squared_error_lo": -1e-6, "squared_error_hi": 9e-6, "logloss": loss, "uncertainty": uncertainty}
        | {"miscalibration": 0.002, "discrimination": uncertainty + 0.002 - loss}
    ]


def shrunk(model_id: str, y: np.ndarray, p: np.ndarray) -> Rows:
    """Fact `slice_shrinkage`: all rows, and two categories of half of them, one of them never seen in training."""
    half = len(y) // 2
    parts = [("all", 0, "all", slice(None)), ("category", 1, "tea", slice(0, half))]
    parts.append(("category", 1, "never seen in training", slice(half, None)))
    found, strength, parent = [], 50.0, 1.0
    for level, depth, value, rows in parts:
        conversions, expected = int(y[rows].sum()), float(p[rows].sum())
        weight = expected / (expected + strength)
        ratio = weight * conversions / expected + (1 - weight) * parent
        found.append(
            {
                "model_id": model_id,
                "level": level,
                "depth": depth,
                "value": value,
                "is_unseen": value.startswith("never"),
                "parent": "all" if depth else None,
                "entities": len(y[rows]) // 3,
            }
            | {"n": len(y[rows]), "conversions": conversions, "sum_p": expected, "raw_ratio": conversions / expected}
            | {"shrunk_ratio": ratio, "weight": weight, "parent_ratio": parent, "strength": strength}
        )
        parent = ratio if depth == 0 else parent
    return found


def gain(model_id: str) -> Rows:
    """Fact `shrinkage_gain`: raw ratios surely lose, shrunk ones surely beat them and are no better than none."""
    numbers = {"none": (100.0, 0.0, 0.0), "whole": (105.0, 0.05, 0.1), "raw": (150.0, 0.5, 0.2)}
    numbers["shrunk"] = (99.0, -0.01, 0.05)
    return [
        {"model_id": model_id, "level": level, "correction": name, "error": error, "vs_none": gap}
        | {"vs_none_lo": gap - half, "vs_none_hi": gap + half, "vs_raw": error / 150 - 1}
        | {"vs_raw_lo": error / 150 - 1 - half * (name != "raw"), "vs_raw_hi": error / 150 - 1 + half * (name != "raw")}
        | {"learned_periods": 3, "n_periods": 3}
        for level in ("all", "category")
        for name, (error, gap, half) in numbers.items()
    ]


def facts_of(model_id: str, y: np.ndarray, p: np.ndarray, periods: int, is_verdict: bool) -> dict[str, Rows]:
    """All five facts of a model of the seed that ships; `y` and `p` of its test rows."""
    return {
        "calibrator_comparison": comparison(model_id, y, p, periods),
        "reliability_curve": curve(model_id, y, p),
        "calibration_error": error(model_id, y, p, periods),
        "slice_shrinkage": shrunk(model_id, y, p) if is_verdict else [],
        "shrinkage_gain": gain(model_id) if is_verdict else [],
    }
