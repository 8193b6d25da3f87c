"""How reliable p is on the test periods: the CORP curve with its band, its decomposition, and debiased errors.

CORP (Dimitriadis, Gneiting and Jordan 2021) estimates the observed rate at each p by isotonic regression, so there are
no bins to choose. The curve and the decomposition are those of the package model-diagnostics; the band is the paper's
consistency band: where the curve would lie, 95 of 100 times at each p, if every row converted with its p.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from ffm_udf import calibration_error
from ffm_udf.calibration_error import Bins
from ffm_udf.calibration_methods import isotonic
from ffm_udf.metrics import EPSILON, row_logloss
from ffm_udf.predictions import opened
from jobs.judged import Judged

POINTS = 200  # of a curve, at most
RESAMPLES = 400  # simulations behind the band
GROUPS = 4096  # of neighbouring p that a simulation draws together
LEVEL = 0.95


def reliability_facts(judged: Judged, places: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
    """Rows of the facts `reliability_curve` and `calibration_error` for the models at `places` (by id), on test."""
    tasks = [judged.task(place=place) for place in places.values()]
    found = dict(zip(places, judged.run(of_model, tasks), strict=True))
    return {
        "reliability_curve": [
            {"model_id": model_id, "point": number, **point}
            for model_id, mine in found.items()
            for number, point in enumerate(mine["curve"])
        ],
        "calibration_error": [{"model_id": model_id, **mine["error"]} for model_id, mine in found.items()],
    }


def of_model(task: dict[str, Any]) -> dict[str, Any]:
    """Curve and error of the model at `place`; `task`: folders judged and predictions, place.

    The whole test part is held at once, since the curve needs one order of all rows: about 200 bytes per row
    (measured at 604,304 rows).
    """
    rows, predictions = opened(task)
    test = rows.splits["test"]
    p, y = predictions.p(task["place"], test), np.asarray(rows.y[test])
    spans = [rows.periods[number] for number in rows.periods_of("test")]
    groups = [slice(span.start - test.start, span.stop - test.start) for span in spans]
    # Fixed, so that a night repeated draws the same band.
    drawn = simulated(p, RESAMPLES, np.random.default_rng(0))
    return {"curve": curve(p, y, drawn), "error": error(p, y, groups, drawn)}


def simulated(p: np.ndarray, times: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Samples of labels that follow `p`: rows `n` and mean `p` of GROUPS groups of neighbouring p, float64 [groups],
    and `conversions` [times, groups] of each sample. The rows of a group are drawn as if they had its mean p."""
    ordered = np.sort(p)
    # Half of the groups have equally many rows, half equal sums of p: the few highest p are not lumped together.
    share, sums = np.linspace(0, 1, GROUPS // 2, endpoint=False), np.cumsum(ordered)
    starts = np.unique(np.append((share * len(p)).astype(np.int64), np.searchsorted(sums, share * sums[-1])))
    n = np.diff(np.append(starts, len(p))).astype(np.float64)
    mean = np.add.reduceat(ordered, starts) / n
    drawn = rng.binomial(n.astype(np.int64), mean, (times, len(n))).astype(np.float64)
    return {"n": n, "p": mean, "conversions": drawn}


def curve(p: np.ndarray, y: np.ndarray, drawn: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Points of the CORP curve in order of p, at most POINTS: p, the observed rate there, the ends of the band, and the
    rows from the point before (exclusive) up to it."""
    x, rate = corp(p, y)
    if len(x) > POINTS:
        kept = np.unique(np.linspace(0, len(x) - 1, POINTS).round().astype(np.int64))
        x, rate = x[kept], rate[kept]
    fits = [np.interp(x, drawn["p"], isotonic(drawn["n"], sample)) for sample in drawn["conversions"]]
    lo, hi = np.quantile(fits, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    counts = np.diff(np.append(0, np.searchsorted(np.sort(p), x, side="right")))
    columns = {"p": x, "observed_rate": rate, "band_lo": lo, "band_hi": hi, "n": counts}
    return [dict(zip(columns, row, strict=True)) for row in zip(*(c.tolist() for c in columns.values()), strict=True)]


def corp(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the curve as model-diagnostics draws it: p and the observed rate, float64 [corners]."""
    import plotly.graph_objects as go
    from model_diagnostics.calibration import plot_reliability_diagram

    # Its one way to the curve is a figure; that of Plotly is a tree of arrays and draws nothing.
    figure = plot_reliability_diagram(y.astype(np.float64), p, ax=go.Figure())
    return np.asarray(figure.data[-1].x, np.float64), np.asarray(figure.data[-1].y, np.float64)


def error(p: np.ndarray, y: np.ndarray, groups: list[slice], drawn: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The row of fact `calibration_error` but for its model; `groups`: rows of each test period."""
    parts = decomposed(p, y)
    cuts = calibration_error.edges(p)
    by_period = calibration_error.binned(p, y, cuts, groups)
    squared, lo, hi = jackknife(by_period)
    bins = by_period.pooled()
    return {
        "n": len(p),
        "conversions": int(y.sum()),
        "bins": len(cuts) + 1,
        "ece_raw": calibration_error.expected_calibration_error(bins),
        "ece_raw_if_perfect": ece_if_perfect(cuts, drawn),
        "squared_error": squared,
        "squared_error_lo": lo,
        "squared_error_hi": hi,
        **parts,
        "n_periods": len(groups),
    }


def decomposed(p: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """CORP's parts of the logloss: miscalibration - discrimination + uncertainty. Rows of one class only leave nothing
    to discriminate or to be uncertain of."""
    from model_diagnostics.scoring import LogLoss, decompose

    if y.min() == y.max():
        loss = float(row_logloss(y, p).mean())
        return {"miscalibration": loss, "discrimination": 0.0, "uncertainty": 0.0, "logloss": loss}
    parts = decompose(y.astype(np.float64), np.clip(p, EPSILON, 1 - EPSILON), scoring_function=LogLoss())
    found = parts.row(0, named=True)
    return {name: found[name] for name in ("miscalibration", "discrimination", "uncertainty")} | {
        "logloss": found["score"]
    }


def jackknife(by_period: Bins) -> tuple[float, float | None, float | None]:
    """The debiased squared calibration error with its 95 % interval: jackknife over periods (Efron and Stein 1981), t
    with one degree of freedom less than there are periods; none for a single period."""
    whole, periods = calibration_error.debiased_squared(by_period.pooled()), len(by_period.n)
    if periods < 2:
        return whole, None, None
    without = np.array([calibration_error.debiased_squared(by_period.without(place)) for place in range(periods)])
    deviation = np.sqrt((periods - 1) / periods * ((without - without.mean()) ** 2).sum())
    half = float(stats.t.ppf(0.5 + LEVEL / 2, periods - 1) * deviation)
    return whole, whole - half, whole + half


def ece_if_perfect(cuts: np.ndarray, drawn: Mapping[str, np.ndarray]) -> float:
    """The mean raw calibration error of labels that follow p: what chance alone makes of it, on as many rows."""
    number = np.searchsorted(cuts, drawn["p"], side="right")
    size = len(cuts) + 1
    n, sum_p = np.bincount(number, drawn["n"], size), np.bincount(number, drawn["n"] * drawn["p"], size)
    samples = [Bins(n, np.bincount(number, sample, size), sum_p) for sample in drawn["conversions"]]
    return float(np.mean([calibration_error.expected_calibration_error(bins) for bins in samples]))
