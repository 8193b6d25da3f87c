"""Facts of how late labels come, made from arithmetic: what `label` and `delayed-feedback` would write."""

from __future__ import annotations

from fake_training import Rows, period


def label_delay(rates: Rows) -> dict[str, Rows]:
    """Facts of `label`: all conversions come within three days, 40, 50 and 10 % of them; what is not final in
    `label_rates` doubles."""
    shares = {"all": (0.0, 0.4, 0.9, 1.0), "late": (0.0, 0.1, 0.5, 1.0)}
    curves = [
        {"grp": name, "delay_days": day, "at_risk": 1000 - 50 * day, "events": round(50 * share)}
        | {"converted": 0.1 * share, "converted_lo": 0.09 * share, "converted_hi": 0.11 * share}
        | {"completeness": share, "completeness_lo": share**2, "completeness_hi": share**0.5}
        for name, found in shares.items()
        for day, share in enumerate(found)
    ]
    periods = []
    for row in rates:
        known, is_open = row["conversions"], not row["is_mature"]
        expected = known * (2.0 if is_open else 1.0)
        periods.append(
            {"period": row["period"], "exposures": row["exposures"], "immature": 500 if is_open else 0}
            | {"conversions_first": known - 10, "conversions": known, "conversions_late": 1, "expected": expected}
            | {"expected_lo": expected * (0.9 if is_open else 1.0), "expected_hi": expected * (1.2 if is_open else 1.0)}
        )
    return {"label_delay": curves, "label_settling": periods}


def delayed_feedback() -> Rows:
    """Fact of `delayed-feedback`: one way is surely better than mature rows alone, one surely worse, one neither."""
    about = {"n": 10_000, "conversions": 200, "n_dates": 9, "n_seeds": 2}
    about |= {"as_of_from": period(9), "as_of_through": period(1)}
    ways = {"mature_only": 0.0, "naive": 0.02, "fake_negatives": 0.001, "importance_weights": -0.01, "oracle": -0.02}
    found = []
    for name, worse in ways.items():
        half = 0.005 if worse else 0.0
        found.append(
            about
            | {"method": name, "is_reference": name == "mature_only", "is_oracle": name == "oracle"}
            | {"sum_p": 200.0 * (1 - worse), "sum_logloss": 900.0 * (1 + worse), "delta_logloss": 0.09 * worse}
            | {"delta_logloss_lo": 0.09 * (worse - half), "delta_logloss_hi": 0.09 * (worse + half)}
            | {"delta_relative": worse, "delta_relative_lo": worse - half, "delta_relative_hi": worse + half}
            | {"calibration_ratio_lo": 0.9 - worse, "calibration_ratio_hi": 1.1 - worse}
            | {
                "delta_calibration": -worse,
                "delta_calibration_lo": -worse - half,
                "delta_calibration_hi": -worse + half,
            }
            | {"train_rows": 5_000.0 if name == "mature_only" else 8_000.0, "train_conversions": 100.0}
        )
    return found
