"""Facts of a tiny night's training and evaluation, made from arithmetic alone, in two flavours: a nightly and a sweep.

Every model scores the same made-up rows with a p that is the truth, blurred; sums over periods, slices and bins agree
because they are sums of these rows.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import dataclass
from typing import Any

import fake_calibration
import numpy as np
from scipy import stats

Rows = list[dict[str, Any]]

CYCLE = dt.date(2017, 12, 25)
SPLITS = {"valid": 2, "calib": 2, "test": 6}
SLICES = {"department": ("grocery", "produce", "drug"), "new_manufacturer": ("no", "yes")}
MIN_N = 400
ROWS_PER_PERIOD = 600
# How far p is drawn from the truth to the base rate.
BASELINE_BLUR = {"prior": 0.9, "lr": 0.45, "lr_cross": 0.4, "lightgbm": 0.3, "fm": 0.35}
TUNED = {"prior", "lr", "lr_cross", "lightgbm"}  # without an embedding


@dataclass(frozen=True)
class Model:
    """A candidate by what distinguishes it."""

    algorithm: str
    k: int
    seed: int
    blur: float

    @property
    def id(self) -> str:
        name = f"{self.algorithm}-k{self.k}" if self.k else self.algorithm
        return name if self.seed == 1 else f"{name}-s{self.seed}"


@dataclass(frozen=True)
class Flavour:
    """What a night trains. `blur` by k; the k in `overfitting` and the mixed and skewed one are the last of them."""

    name: str
    blur: tuple[tuple[int, float], ...]
    seeds: tuple[int, ...]
    baselines: tuple[str, ...]
    verdict_k: int  # what the numbers below come to; `k_comparison` computes it
    overfitting: tuple[int, ...] = ()
    mixed_k: int | None = None
    openings: int = 0
    has_levers: bool = False
    has_shadow: bool = False
    has_staleness: bool = False

    @property
    def ks(self) -> tuple[int, ...]:
        return tuple(k for k, _ in self.blur)

    def models(self) -> list[Model]:
        ffm = [Model("ffm", k, seed, blur) for k, blur in self.blur for seed in self.seeds]
        fm = [Model("fm", k, 1, BASELINE_BLUR["fm"] + 0.002 * k) for k in (4, 16) if "fm" in self.baselines]
        others = [name for name in ("prior", *self.baselines) if name != "fm"]
        return [*(Model(name, 0, 1, BASELINE_BLUR[name]) for name in others), *fm, *ffm]


NIGHTLY = Flavour("nightly", ((1, 0.05), (2, 0.04), (4, 0.03)), (1,), (), verdict_k=1)
SWEEP = Flavour(
    "sweep",
    ((1, 0.15), (2, 0.11), (4, 0.06), (8, 0.05), (16, 0.045), (32, 0.01)),
    (1, 2, 3, 4, 5),
    ("lr", "lr_cross", "lightgbm", "fm"),
    verdict_k=4,
    overfitting=(16, 32),
    mixed_k=32,
    openings=3,
    has_levers=True,
    has_shadow=True,
    has_staleness=True,
)


def period(weeks_before_cycle: int) -> dt.date:
    return CYCLE - dt.timedelta(weeks=int(weeks_before_cycle))


def evaluation(flavour: Flavour = NIGHTLY) -> dict[str, Rows]:
    """Facts of `train` and `evaluate`: all that the evidence marts need, but for value."""
    names = ("models", "training_cost", "training_curve", "period_metrics", "model_metrics", "slice_metrics")
    found: dict[str, Rows] = {name: [] for name in (*names, "scoring_cost")}
    for model in flavour.models():
        rows = scored_rows(model)
        _add_training(found, model, flavour, "candidate")
        _add_training(found, model, flavour, "rehearsal")
        _add_metrics(found, model, rows)
        if model.seed == 1:
            found["slice_metrics"] += _slices(model, rows)
            test, is_verdict = rows["split"] == "test", model.id == f"ffm-k{flavour.verdict_k}"
            about = fake_calibration.facts_of(model.id, rows["y"][test], rows["p"][test], SPLITS["test"], is_verdict)
            for name, listed in about.items():
                found.setdefault(name, []).extend(listed)
            found["scoring_cost"] += _scoring_cost(model)
    verdict = next(m for m in flavour.models() if m.id == f"ffm-k{flavour.verdict_k}")
    _add_training(found, verdict, flavour, "refit")
    losses = losses_on_test(found["period_metrics"])
    found["k_comparison"] = _comparison(flavour, losses)
    found["baseline_comparison"] = _baseline_comparison(flavour, found["model_metrics"], losses)
    found["incumbent_comparison"] = _against_prior(flavour, losses)
    found["lever_gain"] = _levers() if flavour.has_levers else []
    found["slice_discovery"] = _discovered(flavour) if flavour.has_levers else []
    found["test_openings"] = _openings(flavour)
    return found


# ---- the rows and what they add up to ----


def scored_rows(model: Model) -> dict[str, np.ndarray]:
    """Scored rows: `split`, `weeks` (before the cycle), slices, label `y` and calibrated `p`."""
    rng = np.random.default_rng(7)  # the same rows for each model: differences are paired
    weeks = np.repeat(np.arange(sum(SPLITS.values()), 0, -1), ROWS_PER_PERIOD)
    split = np.repeat([name for name, periods in SPLITS.items() for _ in range(periods)], ROWS_PER_PERIOD)
    logit = rng.normal(-2.5, 1.2, len(weeks))
    truth = 1 / (1 + np.exp(-logit))
    department = rng.choice(len(SLICES["department"]), len(weeks), p=[0.6, 0.33, 0.07])
    new = rng.integers(0, 2, len(weeks))
    y = (rng.random(len(weeks)) < truth * np.where(new == 1, 0.6, 1.1)).astype(int)
    off = np.random.default_rng(100 * model.k + model.seed).normal(0, 0.012, len(weeks))
    p = 1 / (1 + np.exp(-(logit * (1 - model.blur) - 2.5 * model.blur + off)))
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


def _add_metrics(found: dict[str, Rows], model: Model, rows: dict[str, np.ndarray]) -> None:
    auc = 0.5 if model.algorithm == "prior" else 0.84 - 0.2 * model.blur
    for split, periods in SPLITS.items():
        within = rows["split"] == split
        per_period = []
        for week in np.unique(rows["weeks"][within])[::-1]:
            where = rows["weeks"] == week
            sums = _sums(rows, where) | {"sum_squared_error": _squared_error(rows, where), "auc": auc}
            per_period.append(sums)
            ranking = {"pr_auc": auc / 4, "top_n": 20, "sum_ndcg": 6.0 + auc, "sum_map": 2.0 + auc, "ranked_groups": 12}
            ranking |= {"captured": int(auc * sums["conversions"]), "rankable": sums["conversions"]}
            found["period_metrics"].append(
                {"model_id": model.id, "split": split, "period": period(week), **sums, **ranking}
            )
        losses = np.array([row["sum_logloss"] / row["n"] for row in per_period])
        ratios = np.array([row["sum_p"] / row["conversions"] for row in per_period])
        total = _sums(rows, within) | {"sum_squared_error": _squared_error(rows, within), "auc": auc}
        lo, hi = _around(total["sum_logloss"] / total["n"], losses)
        ratio_lo, ratio_hi = _around(total["sum_p"] / total["conversions"], ratios)
        found["model_metrics"].append(
            {"model_id": model.id, "split": split, **total, "pr_auc": auc / 4, "logloss_lo": lo, "logloss_hi": hi}
            | {"calibration_ratio_lo": ratio_lo, "calibration_ratio_hi": ratio_hi, "n_periods": periods}
        )


def _around(centre: float, values: np.ndarray) -> tuple[float, float]:
    """A symmetric interval; its exact width is not what these facts are for."""
    half = 2.57 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return centre - half, centre + half


def _slices(model: Model, rows: dict[str, np.ndarray]) -> Rows:
    found = []
    for slice_type, values in SLICES.items():
        for code, value in enumerate(values):
            sums = _sums(rows, (rows["split"] == "test") & (rows[slice_type] == code))
            ratio = sums["sum_p"] / sums["conversions"]
            half = 2 * ratio / math.sqrt(sums["conversions"])
            found.append(
                {"model_id": model.id, "slice_type": slice_type, "slice_value": value, **sums, "min_n": MIN_N}
                | {"entities": sums["n"] // 3}
                | {"calibration_ratio_lo": ratio - half, "calibration_ratio_hi": ratio + half}
                | {"n_periods": SPLITS["test"], "p_value": math.erfc(abs(ratio - 1) / (half / 2) / math.sqrt(2))}
                | {"p_adjusted": None}
            )
    judged = [row for row in found if row["n"] >= MIN_N]
    for row, adjusted in zip(judged, stats.false_discovery_control([r["p_value"] for r in judged]), strict=True):
        row["p_adjusted"] = float(adjusted)
    return found


def _discovered(flavour: Flavour) -> Rows:
    """Two pairs of slices that one half of the test periods found; the other confirms the first of them."""
    halves = {"search_n": 900, "search_conversions": 60, "search_sum_p": 90.0, "search_p_adjusted": 0.01}
    halves |= {"confirm_n": 900, "confirm_conversions": 60, "n_searched": 6}
    return [
        {
            "model_id": f"ffm-k{flavour.verdict_k}",
            "slice_a": f"department = {name}",
            "slice_b": "new_manufacturer = yes",
        }
        | {"confirm_sum_p": 84.0 if is_confirmed else 61.0, "confirm_p_adjusted": 0.02 if is_confirmed else 0.9}
        | {"is_confirmed": is_confirmed}
        | halves
        for name, is_confirmed in (("grocery", True), ("produce", False))
    ]


# ---- training ----


def _add_training(found: dict[str, Rows], model: Model, flavour: Flavour, role: str) -> None:
    identity = model.id if role == "candidate" else f"{role}-{model.id}"
    is_mixed = model.algorithm == "ffm" and model.k == flavour.mixed_k
    cost = _training_cost(model, identity, is_mixed)
    found["training_cost"] += cost
    found["models"].append(_model(model, identity, role, cost, 4 if is_mixed else 1))
    if model.k:
        curve = _curve(identity, model.k in flavour.overfitting)
        found["training_curve"] += curve if role == "candidate" else [{**row, "valid_logloss": None} for row in curve]


def _model(model: Model, identity: str, role: str, cost: Rows, partitions: int) -> dict[str, Any]:
    parameters = {"lightgbm": 90_000, "lr_cross": 60_000}.get(model.algorithm, 5_000 * model.k + 1_200)
    rows = sum(row["rows"] for row in cost if row["stage"] in ("fit", "epoch"))
    seconds = {name: sum(row[name] for row in cost) for name in ("cpu_s", "wall_s", "jit_s")}
    return {
        "model_id": identity,
        "algorithm": model.algorithm,
        "k": model.k,
        "seed": model.seed,
        "is_shipping_seed": model.seed == 1,
        "role": role,
        "candidate_id": model.id,
        "strategy": "sweep" if partitions == 1 else "mixing",
        "partitions": partitions,
        "init_model_id": None,
        "negative_rate": 1.0,
        "window": None,
        "half_life": None,
        "n_fields": 3,
        "n_features": 1_200,
        "n_parameters": parameters,
        "artifact_bytes": cost[0]["artifact_bytes"],
        "train_rows": 24_000,
        "train_from": period(50),
        "train_through": period({"candidate": 11, "rehearsal": 7, "refit": 1}[role]),
        "epochs": 4,
        "best_epoch": 3,
        **seconds,
        "peak_rss_mib": max(row["peak_rss_mib"] for row in cost),
        "bytes_read": sum(row["bytes_read"] for row in cost),
        "rows_per_s": rows / seconds["wall_s"],
        "calibrator_id": f"platt-{model.id}",
        "calibrator_slope": 0.97,
        "calibrator_intercept": -0.05,
        "hyperparameters": json.dumps({"eta": 0.1, "l2": 2e-5}),
    }


def _training_cost(model: Model, identity: str, is_mixed: bool) -> Rows:
    """Rows of fact `training_cost`; of the four partitions of a mixed model the last has 3.5 times the rows."""
    of_all = {"model_id": identity, "k": model.k, "seed": model.seed, "bytes_read": 1_500_000}
    of_all["artifact_bytes"] = {"lightgbm": 400_000, "lr_cross": 250_000}.get(model.algorithm, 40_000 * model.k + 9_000)
    slow = {"lightgbm": 9.0, "lr": 0.6, "lr_cross": 1.2, "prior": 0.1}.get(model.algorithm, 1.0 + 1.5 * model.k)
    shares = (4_000, 4_000, 4_000, 14_000) if is_mixed else (24_000,)
    stages = (
        {"epoch": 1.0, "merge": 0.1, "validate": 0.15} if is_mixed else {"fit": 1.0, "calibrate": 0.1, "save": 0.02}
    )
    found = []
    for stage, part in stages.items():
        for partition, share in enumerate(shares):
            seconds = slow * part * share / 24_000 * (1 + 0.01 * model.seed)
            found.append(
                {**of_all, "stage": stage, "partition": partition, "rows": 4 * share if part == 1.0 else share}
                | {"wall_s": 1.1 * seconds, "cpu_s": seconds, "jit_s": 1.1 if part == 1.0 else 0.0}
                | {"peak_rss_mib": 300.0 + 20 * model.k, "rows_per_s": share / seconds}
            )
    return found


def _curve(identity: str, overfits: bool) -> Rows:
    """Four epochs, the third the best on valid: 1.1 or 0.04 % better than the last."""
    return [
        {"model_id": identity, "epoch": epoch, "train_logloss": 0.28 - 0.004 * epoch, "wall_s": 0.6}
        | {"valid_logloss": 0.27 + (0.003 if overfits else 0.0001) * (epoch - 3) ** 2}
        for epoch in range(1, 5)
    ]


def _scoring_cost(model: Model) -> Rows:
    slow = {"lightgbm": 12.0, "lr": 0.5, "lr_cross": 0.8, "prior": 0.3}.get(model.algorithm, 1.0 + model.k)
    return [
        {"model_id": model.id, "k": model.k, "repeat": repeat, "rows": 50_000, "peak_rss_mib": 200.0 + 10 * model.k}
        | {"wall_s": 0.05 * slow * (1 + 0.02 * repeat), "cpu_s": 0.048 * slow * (1 + 0.02 * repeat)}
        for repeat in range(1, 6)
    ]


# ---- comparisons ----


def losses_on_test(period_metrics: Rows) -> dict[str, np.ndarray]:
    """Mean test logloss by model, one value per period; periods are equally large."""
    found: dict[str, list[float]] = {}
    for row in period_metrics:
        if row["split"] == "test":
            found.setdefault(row["model_id"], []).append(row["sum_logloss"] / row["n"])
    return {name: np.array(values) for name, values in found.items()}


def _comparison(flavour: Flavour, losses: dict[str, np.ndarray]) -> Rows:
    """Rows of fact `k_comparison`: means over the seeds; intervals of two standard errors, simultaneous of 2.6."""
    by_k = {
        k: np.array([losses[m.id] for m in flavour.models() if (m.algorithm, m.k) == ("ffm", k)]) for k in flavour.ks
    }
    best_k = min(flavour.ks, key=lambda k: by_k[k].mean())
    margin = 0.002 * float(by_k[best_k].mean())
    found = []
    for k in flavour.ks:
        gaps = by_k[k] - by_k[best_k]
        delta, seeds = float(gaps.mean()), len(gaps)
        se_period = float(gaps.mean(axis=0).std(ddof=1)) / math.sqrt(gaps.shape[1])
        se_seed = float(gaps.mean(axis=1).std(ddof=1)) / math.sqrt(seeds) if seeds > 1 else None
        error = math.hypot(se_period, se_seed or 0.0)
        found.append(
            {"k": k, "model_id": f"ffm-k{k}", "best_k": best_k, "best_model_id": f"ffm-k{best_k}"}
            | {"logloss": float(by_k[k].mean()), "delta_logloss": delta, "se_seed": se_seed, "se_period": se_period}
            | {"delta_lo": delta - 2 * error, "delta_hi": delta + 2 * error}
            | {"delta_lo_simultaneous": delta - 2.6 * error, "delta_hi_simultaneous": delta + 2.6 * error}
            | {"delta_lo_entity": delta - 1.5 * error, "delta_hi_entity": delta + 1.5 * error}
            | {"margin": margin, "is_non_inferior": delta + 2.6 * error <= margin, "verdict_from": None}
            | {"infeasible_reason": None}
            | {"is_provisional": seeds < 5, "n_seeds": seeds, "n_periods": gaps.shape[1]}
        )
    smallest = min(row["k"] for row in found if row["is_non_inferior"])
    return [{**row, "is_verdict": row["k"] == smallest} for row in found]


def _baseline_comparison(flavour: Flavour, model_metrics: Rows, losses: dict[str, np.ndarray]) -> Rows:
    valid = {row["model_id"]: row["sum_logloss"] for row in model_metrics if row["split"] == "valid"}
    found = []
    for algorithm in ("prior", *flavour.baselines):
        model = min((m for m in flavour.models() if m.algorithm == algorithm), key=lambda m: valid[m.id])
        gaps = losses[f"ffm-k{flavour.verdict_k}"] - losses[model.id]
        logloss, delta = float(losses[model.id].mean()), float(gaps.mean())
        lo, hi = _around(delta, gaps)
        found.append(
            {"algorithm": algorithm, "model_id": model.id, "k": model.k, "logloss": logloss, "n_periods": len(gaps)}
            | {"delta_logloss": delta, "delta_lo": lo, "delta_hi": hi, "delta_relative": delta / logloss}
            | {"delta_relative_lo": lo / logloss, "delta_relative_hi": hi / logloss}
        )
    return found


def _against_prior(flavour: Flavour, losses: dict[str, np.ndarray]) -> Rows:
    """The row of fact `incumbent_comparison` of a first night: nothing serves yet but the prior."""
    gaps, prior = losses[f"ffm-k{flavour.verdict_k}"] - losses["prior"], float(losses["prior"].mean())
    lo, hi = _around(float(gaps.mean()), gaps)
    return [
        {"challenger_model_id": f"ffm-k{flavour.verdict_k}", "challenger_k": flavour.verdict_k, "margin": 0.001 * prior}
        | {"incumbent_model_id": "prior", "incumbent_algorithm": "prior", "incumbent_k": 0, "incumbent_source": "prior"}
        | {"challenger_logloss": prior + float(gaps.mean()), "incumbent_logloss": prior, "n": 3_600}
        | {"delta_logloss": float(gaps.mean()), "delta_lo": lo, "delta_hi": hi, "delta_se": (hi - lo) / 2 / 2.57}
        | {"delta_lo_entity": 1.1 * lo, "delta_hi_entity": 0.9 * hi, "n_periods": len(gaps)}
    ]


def _levers() -> Rows:
    """One lever that helps for little, one that helps for much, one that does not, one that harms."""
    rows = [
        ("reference", "k = 4", 4, 0.0, 0.0, 1.0),
        ("more k", "k = 8", 8, -0.003, 0.002, 1.9),
        ("more k", "k = 16", 16, -0.001, 0.004, 3.4),
        ("more regularisation", "l2 = 8e-05", 4, -0.004, 0.002, 1.05),
        ("no early stopping", "all 20 epochs", 4, 0.001, 0.003, 1.4),
        ("refit", "on valid and calib too", 4, -0.009, 0.003, 1.8),
        ("recency weights", "half-life 12 periods", 4, -0.012, 0.004, 1.0),
        ("fewer fields", "without history of exposures", 4, 0.03, 0.006, 0.7),
    ]
    return [
        {"lever": lever, "setting": setting, "k": k, "delta_logloss_relative": delta, "cpu_s": 20.0 * ratio}
        | {"delta_lo": delta - half, "delta_hi": delta + half, "cpu_ratio": ratio, "artifact_bytes": 40_000 * k}
        | {"n_folds": 3, "n_periods": 12, "n_seeds": 2, "is_reference": lever == "reference"}
        for lever, setting, k, delta, half, ratio in rows
    ]


def _openings(flavour: Flavour) -> Rows:
    models = len(flavour.models())
    return [
        {"contract": "tiny", "cycle_date": CYCLE, "test_from": period(SPLITS["test"]), "test_through": period(1)}
        | {"opened_at": dt.datetime(2026, 11, 18 + nth, 3), "models": models, "nth": nth}
        for nth in range(1, flavour.openings + 1)
    ]
