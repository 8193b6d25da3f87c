"""Small, internally consistent facts: what the jobs would write for a tiny night, made from arithmetic alone.

Tests of everything behind the facts (dbt, dashboard) start here; sums over periods, slices and bins agree because they
are sums of the same rows.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from jobs import facts

Rows = list[dict[str, Any]]

CYCLE = dt.date(2017, 12, 25)
DATA_THROUGH = dt.datetime(2017, 12, 25)
STARTED = dt.datetime(2026, 11, 21, 2, 0)
KS = (1, 2, 4)
VERDICT_K = 1
SPLITS = {"valid": 2, "calib": 2, "test": 6}
SLICES = {"department": ("grocery", "produce", "drug"), "new_manufacturer": ("no", "yes")}
MIN_N = 400
FIELDS = {"brand": 0.0, "history": 0.6, "store": 0.1}  # how far the last period is pushed, on the normal scale


def _period(weeks_before_cycle: int) -> dt.date:
    return CYCLE - dt.timedelta(weeks=int(weeks_before_cycle))


def model_id(k: int) -> str:
    return "prior" if k == 0 else f"ffm-k{k}"


def _rows_of_a_model(k: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Scored rows: `split`, `period` (weeks before the cycle), slices, label `y` and calibrated `p`."""
    weeks = np.repeat(np.arange(sum(SPLITS.values()), 0, -1), 600)
    split = np.repeat([name for name, periods in SPLITS.items() for _ in range(periods)], 600)
    logit = rng.normal(-2.5, 1.2, len(weeks))
    truth = 1 / (1 + np.exp(-logit))
    blur = {0: 0.9, 1: 0.05, 2: 0.04, 4: 0.03}[k]
    p = 1 / (1 + np.exp(-(logit * (1 - blur) - 2.5 * blur)))
    department = rng.choice(len(SLICES["department"]), len(weeks), p=[0.6, 0.33, 0.07])
    new = rng.integers(0, 2, len(weeks))
    y = (rng.random(len(weeks)) < truth * np.where(new == 1, 0.6, 1.1)).astype(int)
    return {"split": split, "weeks": weeks, "y": y, "p": p, "department": department, "new_manufacturer": new}


def _sums(rows: dict[str, np.ndarray], where: np.ndarray) -> dict[str, Any]:
    y, p = rows["y"][where], rows["p"][where]
    return {
        "n": len(y),
        "conversions": int(y.sum()),
        "sum_p": float(p.sum()),
        "sum_logloss": float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).sum()),
    }


def _squared_error(rows: dict[str, np.ndarray], where: np.ndarray) -> float:
    return float(((rows["y"] - rows["p"])[where] ** 2).sum())


def evaluation() -> dict[str, Rows]:
    """Facts of `train` and `evaluate`: all that the evidence marts need, but for value."""
    found: dict[str, Rows] = {
        name: []
        for name in (
            "models",
            "training_curve",
            "period_metrics",
            "model_metrics",
            "slice_metrics",
            "calibration_bins",
            "scoring_cost",
        )
    }
    for k in (0, *KS):
        rows = _rows_of_a_model(k, np.random.default_rng(7))  # the same rows for each k: deltas are paired
        found["models"].append(_model(k, "candidate"))
        _add_metrics(found, k, rows)
        found["calibration_bins"] += _bins(k, rows)
        if k:
            found["training_curve"] += _curve(model_id(k))
            found["scoring_cost"] += _scoring_cost(k)
    found["models"].append(_model(VERDICT_K, "refit"))
    found["training_curve"] += [{**row, "valid_logloss": None} for row in _curve(f"refit-k{VERDICT_K}")]
    found["k_comparison"] = _comparison(found["model_metrics"])
    return found


def _model(k: int, role: str) -> dict[str, Any]:
    parameters = 5_000 * k + 1_200
    return {
        "model_id": model_id(k) if role == "candidate" else f"refit-k{k}",
        "algorithm": "ffm" if k else "prior",
        "k": k,
        "seed": 1,
        "role": role,
        "n_fields": 3,
        "n_features": 1_200,
        "n_parameters": parameters,
        "artifact_bytes": parameters * 8 + 4_096,
        "train_rows": 24_000,
        "train_from": _period(50),
        "train_through": _period(11) if role == "candidate" else _period(1),
        "epochs": 4,
        "best_epoch": 3,
        "cpu_s": 2.0 + 1.5 * k,
        "wall_s": 2.5 + 1.5 * k,
        "jit_s": 1.1,
        "peak_rss_mib": 300.0 + 20 * k,
        "bytes_read": 1_500_000,
        "rows_per_s": 40_000 / (1 + k),
        "calibrator_id": f"platt-{k}",
        "calibrator_slope": 0.97,
        "calibrator_intercept": -0.05,
        "hyperparameters": json.dumps({"eta": 0.1, "l2": 2e-5}),
    }


def _add_metrics(found: dict[str, Rows], k: int, rows: dict[str, np.ndarray]) -> None:
    auc = 0.5 if k == 0 else 0.82 + 0.003 * k
    for split, periods in SPLITS.items():
        within = rows["split"] == split
        per_period = []
        for week in np.unique(rows["weeks"][within])[::-1]:
            where = rows["weeks"] == week
            sums = _sums(rows, where) | {"sum_squared_error": _squared_error(rows, where), "auc": auc}
            per_period.append(sums)
            found["period_metrics"].append({"model_id": model_id(k), "split": split, "period": _period(week), **sums})
        losses = np.array([row["sum_logloss"] / row["n"] for row in per_period])
        ratios = np.array([row["sum_p"] / row["conversions"] for row in per_period])
        total = _sums(rows, within) | {"sum_squared_error": _squared_error(rows, within), "auc": auc}
        lo, hi = _around(total["sum_logloss"] / total["n"], losses)
        ratio_lo, ratio_hi = _around(total["sum_p"] / total["conversions"], ratios)
        found["model_metrics"].append(
            {"model_id": model_id(k), "split": split, **total, "logloss_lo": lo, "logloss_hi": hi}
            | {"calibration_ratio_lo": ratio_lo, "calibration_ratio_hi": ratio_hi, "n_periods": periods}
        )
    for slice_type, values in SLICES.items():
        for code, value in enumerate(values):
            sums = _sums(rows, (rows["split"] == "test") & (rows[slice_type] == code))
            ratio = sums["sum_p"] / sums["conversions"]
            half = 2 * ratio / math.sqrt(sums["conversions"])
            found["slice_metrics"].append(
                {"model_id": model_id(k), "slice_type": slice_type, "slice_value": value, **sums, "min_n": MIN_N}
                | {"calibration_ratio_lo": ratio - half, "calibration_ratio_hi": ratio + half}
            )


def _around(centre: float, values: np.ndarray) -> tuple[float, float]:
    """A symmetric interval; its exact width is not what these facts are for."""
    half = 2.57 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return centre - half, centre + half


def _bins(k: int, rows: dict[str, np.ndarray]) -> Rows:
    edges = np.quantile(rows["p"][rows["split"] == "calib"], np.linspace(0, 1, 11))
    place = np.clip(np.searchsorted(edges, rows["p"], side="right") - 1, 0, 9)
    found = []
    for number in range(10):
        sums = _sums(rows, (rows["split"] == "test") & (place == number))
        del sums["sum_logloss"]
        found.append(
            {"model_id": model_id(k), "bin": number + 1, "p_lo": float(edges[number]), "p_hi": float(edges[number + 1])}
            | sums
        )
    return found


def _curve(identity: str) -> Rows:
    return [
        {"model_id": identity, "epoch": epoch, "train_logloss": 0.30 - 0.02 * epoch, "wall_s": 0.6}
        | {"valid_logloss": 0.27 + 0.01 * (epoch - 3) ** 2}
        for epoch in range(1, 5)
    ]


def _scoring_cost(k: int) -> Rows:
    return [
        {"model_id": model_id(k), "k": k, "repeat": repeat, "rows": 50_000, "peak_rss_mib": 200.0 + 10 * k}
        | {"wall_s": 0.05 * (1 + k) * (1 + 0.02 * repeat), "cpu_s": 0.048 * (1 + k) * (1 + 0.02 * repeat)}
        for repeat in range(1, 6)
    ]


def _comparison(model_metrics: Rows) -> Rows:
    loss = {row["model_id"]: row["sum_logloss"] / row["n"] for row in model_metrics if row["split"] == "test"}
    best_k = min(KS, key=lambda k: loss[model_id(k)])
    best = loss[model_id(best_k)]
    margin = 0.002 * best
    found = []
    for k in KS:
        delta = loss[model_id(k)] - best
        half = 0.0 if k == best_k else 0.0004
        found.append(
            {"model_id": model_id(k), "k": k, "best_model_id": model_id(best_k), "best_k": best_k}
            | {"delta_logloss": delta, "delta_lo": delta - half, "delta_hi": delta + half}
            | {"delta_lo_simultaneous": delta - 1.3 * half, "delta_hi_simultaneous": delta + 1.3 * half}
            | {"margin": margin, "is_non_inferior": delta + 1.3 * half <= margin, "is_provisional": True}
            | {"n_seeds": 1, "n_periods": SPLITS["test"]}
        )
    smallest = min(row["k"] for row in found if row["is_non_inferior"])
    return [{**row, "is_verdict": row["k"] == smallest} for row in found]


def labels_and_rates() -> dict[str, Rows]:
    """Facts of `ingest` and `encode`, and the cost rates."""
    split_of = [name for name, periods in SPLITS.items() for _ in range(periods)]
    names = ["train"] * 10 + split_of + ["unused"]
    rates = [
        {"period": _period(len(names) - 1 - i), "split": split, "exposures": 600, "conversions": 60 - i}
        | {"is_mature": i < len(names) - 1}
        for i, split in enumerate(names)
    ]
    return {
        "label_rates": rates,
        "ingest_counts": [
            {"source": "exposures", "reason": None, "rows": 12_600},
            {"source": "exposures", "reason": "duplicate key", "rows": 12},
            {"source": "exposures", "reason": "time after the cycle date", "rows": 3},
        ],
        "rates": [{"usd_per_cpu_hour": 0.04, "usd_per_gib_hour": 0.005, "usd_per_gib_month": 0.02, "rates_sha": "ra"}],
    }


def value() -> dict[str, Rows]:
    """Facts of `value`: three policies over the test periods, and the model against the other two."""
    found = []
    for policy, rate in (("model", 0.30), ("prior", 0.24), ("random", 0.08)):
        for i in range(SPLITS["test"]):
            conversions = 200 * rate * (1 + 0.05 * math.sin(i + len(policy)))
            found.append(
                {"policy": policy, "model_id": model_id(VERDICT_K if policy == "model" else 0), "pairs": 600}
                | {"period": _period(SPLITS["test"] - i), "contacted": 200, "conversions": conversions}
                | {"sales_value": 3.0 * conversions, "margin_value": 0.75 * conversions, "contact_cost": 4.0}
                | {"profit": 0.75 * conversions - 4.0}
            )
    comparisons = []
    for baseline in ("prior", "random"):
        for objective in ("conversions", "sales_value", "profit"):
            mine, other = ([r[objective] for r in found if r["policy"] == who] for who in ("model", baseline))
            delta = sum(mine) - sum(other)
            half = 2.57 * math.sqrt(len(mine)) * float(np.std(np.subtract(mine, other), ddof=1))
            comparisons.append(
                {"policy": "model", "baseline": baseline, "objective": objective, "total": sum(mine)}
                | {"baseline_total": sum(other), "delta": delta, "delta_lo": delta - half, "delta_hi": delta + half}
                | {"n_periods": len(mine), "assumption": "Every purchase counts, whoever caused it."}
            )
    return {"value_periods": found, "value_comparison": comparisons}


def night() -> dict[str, Rows]:
    """Facts of the second half of the night: scores, drift, decisions, run and release."""
    return _scores() | {"drift_bins": _drift_bins()} | _decisions() | _run()


def _scores() -> dict[str, Rows]:
    households = {f"h{i:02d}": f"store-{i % 2}" for i in range(30)}
    on_offer = {"store-0": [f"family-{j:02d}" for j in range(15)], "store-1": [f"family-{j:02d}" for j in range(5, 20)]}
    rng = np.random.default_rng(11)
    rows: Rows = []
    for entity, store in households.items():
        for candidate in on_offer[store]:
            p = float(1 / (1 + np.exp(-rng.normal(-3, 1))))
            rows.append(
                {"entity_id": entity, "candidate_id": candidate, "match_id": store, "p": p}
                | {"raw_score": math.log(p / (1 - p)), "oov_share": 0.0, "model_id": f"refit-k{VERDICT_K}"}
                | {"calibrator_id": "platt-1", "score_date": CYCLE, "data_through": DATA_THROUGH, "source": "model"}
            )
    for key, rank in (("entity_id", "rank_in_entity"), ("candidate_id", "rank_in_candidate")):
        places: dict[str, int] = {}
        for row in sorted(rows, key=lambda row: -row["p"]):
            places[row[key]] = places.get(row[key], 0) + 1
            row[rank] = places[row[key]]
    offered = [
        {"candidate_id": candidate, "match_id": store, "label": candidate.replace("-", " ")}
        for store, candidates in on_offer.items()
        for candidate in candidates
    ]
    entities = [
        {"entity_id": entity, "match_id": store, "candidates": len(on_offer[store])}
        for entity, store in households.items()
    ]
    return {"scores": rows, "candidates": offered, "entities": entities}


def _drift_bins() -> Rows:
    rng = np.random.default_rng(5)
    found = []
    for subject, field, push in [("field", name, push) for name, push in FIELDS.items()] + [("score", "score", 0.05)]:
        reference = rng.normal(0, 1, 6_000)
        edges = np.quantile(reference, np.linspace(0, 1, 11))[1:-1]
        samples = [(None, reference)] + [
            (_period(weeks), rng.normal(push * (5 - weeks) / 4, 1, 600)) for weeks in range(4, 0, -1)
        ]
        for period, values in samples:
            counts = np.bincount(np.searchsorted(edges, values), minlength=10)
            found += [
                {"subject": subject, "field": field, "period": period, "is_reference": period is None}
                | {"bin": f"decile {i + 1:02d}", "bin_order": i + 1, "n": int(count)}
                for i, count in enumerate(counts)
            ]
    return found


def _decisions() -> dict[str, Rows]:
    shared = {"gate_sha": "gate", "evidence_sha": "evidence"}
    decisions = [
        {"decision_id": "d-1", "seq": 1, "cycle_date": CYCLE - dt.timedelta(weeks=1), "verdict": "HOLD", "k": 2}
        | {"decided_at": STARTED - dt.timedelta(days=1), "reason": "soft rule ece", "candidate_model_id": "older"}
        | {"champion_model_id": None, "entry_hash": "aa"}
        | shared,
        {"decision_id": "d-2", "seq": 4, "cycle_date": CYCLE, "verdict": "GO", "k": VERDICT_K}
        | {"decided_at": STARTED, "reason": f"all 5 rules pass for k = {VERDICT_K}"}
        | {"candidate_model_id": model_id(VERDICT_K), "champion_model_id": f"refit-k{VERDICT_K}", "entry_hash": "bb"}
        | shared,
    ]
    cost, lift = "fct_accuracy_cost_by_k", "fct_kpi_lift"
    rules = [
        ("gate_registered_before_evaluation", "hard", "gate", "1 if the gate is the one recorded", "==", 1.0, 1.0),
        ("normalized_entropy", "hard", cost, "normalized_entropy where is_verdict", "<=", 0.95, 0.86),
        ("auc", "hard", cost, "auc where is_verdict", ">=", 0.8, 0.823),
        ("cost_budget", "hard", cost, "usd_per_1m_scores where is_verdict", "<=", 0.05, 0.00003),
        ("profit_above_prior", "soft", lift, "delta_lo where baseline = 'prior'", ">", 0.0, 21.5),
    ]
    names = ("rule", "severity", "mart", "metric", "operator", "threshold", "value")
    found: Rows = [
        {"decision_id": "d-2", "seq": i, **dict(zip(names, rule, strict=True)), "outcome": "pass", "why": "It must."}
        for i, rule in enumerate(rules, start=1)
    ]
    held = dict(zip(names, ("ece", "soft", cost, "ece", "<=", 0.1, None), strict=True))
    found.append({"decision_id": "d-1", "seq": 1, **held, "outcome": "missing", "why": "It must."})
    return {"decisions": decisions, "decision_rules": found}


def _run() -> dict[str, Rows]:
    stages = ("ingest", "encode", "train", "evaluate", "decide", "score", "monitor")
    return {
        "runs": [
            {"run_id": "run-1", "contract": "tiny", "contract_sha": "c", "cycle_date": CYCLE, "snapshot_id": "s"}
            | {"data_through": DATA_THROUGH, "examples_id": "e", "label_version": "last touch, 7 days, purchase"}
            | {"git_sha": "g", "lock_sha": "l", "python": "3.12", "spark": "4.3.0", "machine": "fake", "cores": 2}
            | {"started_at": STARTED}
        ],
        "run_stages": [
            {"run_id": "run-1", "seq": i, "stage": stage, "status": "done", "wall_s": 1.0 + i, "rows": 1_000}
            | {"started_at": STARTED + dt.timedelta(seconds=10 * i), "bytes_written": 9_000, "peak_rss_mib": 200.0}
            for i, stage in enumerate(stages, start=1)
        ],
        "release": [
            {"release_id": "tiny-2017-12-25-0001", "contract": "tiny", "cycle_date": CYCLE, "run_id": "run-1"}
            | {"data_through": DATA_THROUGH, "verdict": "GO", "decision_id": "d-2", "score_source": "model"}
            | {"champion_model_id": f"refit-k{VERDICT_K}", "data_note": "Made up: no household, no ad, no sale."}
        ],
    }


def evidence() -> dict[str, Rows]:
    """Facts that exist before the decision."""
    return labels_and_rates() | evaluation() | value()


def write(folder: Path, rows: dict[str, Rows]) -> dict[str, str]:
    """Write each fact to `folder`/<fact>/part-0.parquet; returns fact -> glob, as jobs.warehouse.build takes it."""
    for name, listed in rows.items():
        target = folder / name / "part-0.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(facts.table(name, listed), target)
    return {name: str(folder / name / "*.parquet") for name in rows}
