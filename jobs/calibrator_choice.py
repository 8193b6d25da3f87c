"""Which calibration method a model gets: compared on the calib periods alone, with Platt's as the default.

Pure: logits, labels and the rows of each period in, sums and a choice out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffm_udf import calibration_error, calibration_methods
from ffm_udf.calibration import AnyCalibrator
from ffm_udf.calibration_methods import METHODS, Method
from ffm_udf.metrics import row_logloss
from jobs import intervals
from jobs.intervals import Interval

DEFAULT: Method = "platt"
TOLERANCE = 1e-3  # of Platt's logloss: below it two numbers that everyone can apply are worth more than a table


def learned(
    method: Method,
    logits: np.ndarray,
    y: np.ndarray,
    rows: Mapping[int, slice],
    periods: Sequence[int],
    shift: float = 0.0,
) -> AnyCalibrator:
    """The calibrator of `method` from the rows of `periods`, its log-odds shifted by `shift`; `rows` says which rows
    are a period's."""
    spans = [rows[number] for number in periods if number in rows]
    z = np.concatenate([np.asarray(logits[span]) for span in spans]) if spans else np.zeros(0, np.float32)
    labels = np.concatenate([np.asarray(y[span]) for span in spans]) if spans else np.zeros(0, np.int8)
    return calibration_methods.fit(method, z, labels).shifted(shift)


@dataclass(frozen=True)
class Rolled:
    """What a method made of periods that came after those it learned from; arrays float64 [periods]."""

    n: np.ndarray
    loss: np.ndarray  # summed logloss
    squared: np.ndarray  # summed squared error
    error: float  # debiased squared calibration error

    @property
    def mean_loss(self) -> float:
        return float(self.loss.sum() / self.n.sum())

    def minus(self, other: Rolled, level: float = 0.95) -> Interval:
        """Logloss per row minus that of `other`, paired by period."""
        return intervals.ratio(self.loss - other.loss, self.n, level)


def rolled(
    method: Method,
    logits: np.ndarray,
    y: np.ndarray,
    rows: Mapping[int, slice],
    windows: Mapping[int, Sequence[int]],
    shifts: Mapping[int, float] | None = None,
) -> Rolled:
    """`method` on every target of `windows` that has rows, each by the calibrator of its own window, shifted by the
    target's of `shifts`."""
    targets, by = [target for target in sorted(windows) if target in rows], shifts or {}
    calibrators = [learned(method, logits, y, rows, windows[target], by.get(target, 0.0)) for target in targets]
    p = [known(np.asarray(logits[rows[target]])) for known, target in zip(calibrators, targets, strict=True)]
    labels = [np.asarray(y[rows[target]]) for target in targets]
    n, loss, squared = (
        np.array([of(label, found) for label, found in zip(labels, p, strict=True)], np.float64)
        for of in (
            lambda label, found: len(label),
            lambda label, found: row_logloss(label, found).sum(),
            lambda label, found: ((found - label) ** 2).sum(),
        )
    )
    every, known = np.concatenate([np.zeros(0), *p]), np.concatenate([np.zeros(0), *labels])
    bins = calibration_error.binned(every, known, calibration_error.edges(every))
    return Rolled(n, loss, squared, calibration_error.debiased_squared(bins))


def trial_windows(calib: Sequence[int], maturity: int) -> dict[int, list[int]]:
    """For each calib period the calib periods before it whose labels were final when it began; those without any are
    left out. Nothing else is looked at: not valid, which chose the epochs, and not test."""
    windows = {target: [number for number in calib if number < target - maturity] for target in calib}
    return {target: periods for target, periods in windows.items() if periods}


def choose(trials: Mapping[Method, Rolled], tolerance: float = TOLERANCE) -> tuple[Method, str]:
    """The method, and why, from what every method made of the tried periods.

    Platt's, unless a method's logloss is lower by more than `tolerance` of Platt's and the 95 % t interval of the
    difference paired by period, at a level that holds for all compared methods together, lies below 0. Of several such
    methods the one with the lowest logloss. Fewer than two tried periods have no interval.
    """
    platt = trials[DEFAULT]
    others = [method for method in trials if method != DEFAULT]
    tried = len(platt.n)
    if tried < 2:
        return DEFAULT, (
            f"{tried} calib period{'s' if tried != 1 else ''} could be predicted from earlier ones; an interval needs 2"
        )
    level = intervals.simultaneous(0.95, len(others))
    allowed, better = -tolerance * platt.mean_loss, {}
    for method in others:
        gap = trials[method].minus(platt, level)
        if gap.value < allowed and gap.hi is not None and gap.hi < 0:
            better[method] = gap.value
    if not better:
        return DEFAULT, f"no method is surely better, and by more than {tolerance:.1%}, on {tried} calib periods"
    best = min(better, key=lambda method: better[method])
    share = -better[best] / platt.mean_loss
    return best, f"logloss lower by {share:.2%} than Platt's on {tried} calib periods, surely"


def compared(
    logits: np.ndarray,
    y: np.ndarray,
    rows: Mapping[int, slice],
    calib: Sequence[int],
    windows: Mapping[int, Sequence[int]],
    maturity: int,
    shifts: Mapping[int, float] | None = None,
) -> list[dict[str, Any]]:
    """Rows of fact `calibrator_comparison` of one model but for its id: every method on the calib periods, by which one
    is chosen, and on the test periods, by which none is. `windows` and `shifts`: of the test periods."""
    tried = trial_windows(calib, maturity)
    trials = {method: rolled(method, logits, y, rows, tried) for method in METHODS}
    tests = {method: rolled(method, logits, y, rows, windows, shifts) for method in METHODS}
    chosen, why = choose(trials)
    return [
        {
            "method": method,
            "is_chosen": method == chosen,
            "tolerance": TOLERANCE,
            **_part("calib", trials[method], trials[DEFAULT], intervals.simultaneous(0.95, len(METHODS) - 1)),
            **_part("test", tests[method], tests[DEFAULT]),
            "test_brier": float(tests[method].squared.sum() / tests[method].n.sum()) if len(tests[method].n) else None,
            "test_squared_error": tests[method].error,
            "why": why,
        }
        for method in METHODS
    ]


def _part(name: str, mine: Rolled, platt: Rolled, level: float = 0.95) -> dict[str, Any]:
    """n, periods, logloss and its difference to Platt's on one part; null where there was nothing to try."""
    found: dict[str, Any] = {"n": int(mine.n.sum()), "periods": len(mine.n)}
    found |= dict.fromkeys(("logloss", "delta", "delta_lo", "delta_hi"))
    if len(mine.n):
        gap = mine.minus(platt, level)
        found |= {"logloss": mine.mean_loss, "delta": gap.value, "delta_lo": gap.lo, "delta_hi": gap.hi}
    return {f"{name}_{column}": value for column, value in found.items()}
