"""Calibrators: monotone maps from a model's logit to P(y = 1), fitted on periods of their own.

Three forms serve four methods (ffm_udf/calibration_methods.py fits the others than Platt's). All are values with the
same four readings: `calibrator(logits)` p, `float32(logits)` the same for very many, `logit(logits)` the log-odds of p
and `inverse(log_odds)`. They keep the order of scores, weakly where a table is flat: who is ranked ranks by raw logit.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from ffm_udf.metrics import sigmoid

# The float32 nearest to 0 and to 1 that are not these.
LEAST, MOST = np.finfo(np.float32).tiny, np.nextafter(np.float32(1.0), np.float32(0.0))
FARTHEST = 30.0  # log-odds of the forms that bend: 1 - p is then 1e-13, and p still not 1
AT_ONCE = 1 << 16  # logits of a form that bends: its temporaries are float64 and must not be those of a whole chunk


@dataclass(frozen=True)
class Calibrator:
    """Platt: slope and intercept on the logit scale; (1, 0) changes nothing. The fast one of all pairs."""

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64 of the shape of `logits`."""
        return sigmoid(self.logit(logits))

    def float32(self, logits: np.ndarray) -> np.ndarray:
        """The same for very many float32 logits, in float32; never 0 or 1, which are no odds at all."""
        p = logits * np.float32(-self.slope)
        p -= np.float32(self.intercept)
        with np.errstate(over="ignore"):  # exp may be inf: p is then 0, as it should
            np.exp(p, out=p)
        p += np.float32(1.0)
        np.reciprocal(p, out=p)
        return np.clip(p, LEAST, MOST, out=p)

    def logit(self, logits: np.ndarray) -> np.ndarray:
        """Log-odds of the calibrated probabilities, float64."""
        return self.slope * np.asarray(logits, np.float64) + self.intercept

    def inverse(self, log_odds: np.ndarray) -> np.ndarray:
        """The logits that are calibrated to these log-odds, float64."""
        return (np.asarray(log_odds, np.float64) - self.intercept) / self.slope

    def shifted(self, by: float) -> Calibrator:
        """The same with log-odds that are higher by `by`."""
        return replace(self, intercept=self.intercept + by)


@dataclass(frozen=True)
class Beta:
    """Beta calibration (Kull, Silva Filho and Flach 2017): log-odds = a ln q - b ln(1 - q) + c with q = sigmoid(logit).

    a, b >= 0, not both 0; a = b = 1 and c = 0 changes nothing. Far down the log-odds rise with slope a, far up with b.
    """

    a: float
    b: float
    c: float
    method: Literal["beta"] = "beta"

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        return sigmoid(self.logit(logits))

    def float32(self, logits: np.ndarray) -> np.ndarray:
        return _in_parts(self, logits)

    def logit(self, logits: np.ndarray) -> np.ndarray:
        z = np.asarray(logits, np.float64)
        found = self.a * -np.logaddexp(0.0, -z) + self.b * np.logaddexp(0.0, z) + self.c
        return np.clip(found, -FARTHEST, FARTHEST)

    def inverse(self, log_odds: np.ndarray) -> np.ndarray:
        """By bisection between logits of -64 and 64; log-odds beyond all that are reached give an end."""
        wanted = np.asarray(log_odds, np.float64)
        low, high = np.full(wanted.shape, -64.0), np.full(wanted.shape, 64.0)
        for _ in range(60):
            middle = (low + high) / 2
            is_below = self.logit(middle) < wanted
            low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
        return (low + high) / 2

    def shifted(self, by: float) -> Beta:
        return replace(self, c=self.c + by)


@dataclass(frozen=True)
class Table:
    """A monotone table: log-odds at knots of the logit, straight between them and with slope 1 beyond the outer ones.

    `logits` rise strictly, `log_odds` weakly. Beyond what was seen the model's own differences are the best guess, and
    every log-odds has an inverse.
    """

    method: Literal["isotonic", "venn_abers"]
    logits: tuple[float, ...]
    log_odds: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.logits) < 1 or len(self.logits) != len(self.log_odds):
            raise ValueError(
                f"calibrator {self.method}: logits and log_odds must be of one length of at least 1, got "
                f"{len(self.logits)} and {len(self.log_odds)}"
            )
        for name, steps, is_right in (
            ("logits must rise strictly", np.diff(self.logits), np.greater),
            ("log_odds must not fall", np.diff(self.log_odds), np.greater_equal),
        ):
            if not is_right(steps, 0).all():
                place = int(np.flatnonzero(~is_right(steps, 0))[0])
                raise ValueError(f"calibrator {self.method}: {name}, got a step of {steps[place]} after knot {place}")

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        return sigmoid(self.logit(logits))

    def float32(self, logits: np.ndarray) -> np.ndarray:
        return _in_parts(self, logits)

    def logit(self, logits: np.ndarray) -> np.ndarray:
        return np.clip(_through(logits, self.logits, self.log_odds), -FARTHEST, FARTHEST)

    def inverse(self, log_odds: np.ndarray) -> np.ndarray:
        """Where the table is flat, the last logit of that height."""
        return _through(log_odds, self.log_odds, self.logits)

    def shifted(self, by: float) -> Table:
        return replace(self, log_odds=tuple(at + by for at in self.log_odds))


type AnyCalibrator = Calibrator | Beta | Table


def load(found: dict[str, Any] | str) -> AnyCalibrator:
    """The calibrator of a card's dict, or of its JSON text. Without `method` it is Platt's slope and intercept, as of
    models that know no other. Raises ValueError for another method."""
    parts: dict[str, Any] = json.loads(found) if isinstance(found, str) else dict(found)
    method = parts.pop("method", "platt")
    if method == "platt":
        return Calibrator(**parts)
    if method == "beta":
        return Beta(**parts)
    if method in ("isotonic", "venn_abers"):
        return Table(method, tuple(parts["logits"]), tuple(parts["log_odds"]))
    raise ValueError(f"calibrator method must be platt, beta, isotonic or venn_abers, got {method!r}")


def as_dict(calibrator: AnyCalibrator) -> dict[str, Any]:
    """What `load` reads: for JSON. Platt's form has no `method`, which keeps the ids of models that have it."""
    found = asdict(calibrator)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def fit(logits: np.ndarray, y: np.ndarray) -> Calibrator:
    """Maximum likelihood slope and intercept (Platt 1999, without his smoothed targets).

    `logits` float [n], `y` 0/1 [n]. A calibrator must keep the order of the scores: where the likelihood asks for a
    slope that is not positive, or constant logits leave it open, the slope stays 1 and the intercept alone is fitted.
    One class only cannot be calibrated: the identity is returned.
    """
    z, y = np.asarray(logits, np.float64), np.asarray(y, np.float64)
    rate = y.mean() if len(y) else 0.0
    if not 0 < rate < 1:
        return Calibrator()
    ones = np.ones_like(z)
    if np.ptp(z) >= 1e-9:
        intercept, slope = newton(np.stack([ones, z], axis=1), np.zeros_like(z), y, np.array([0.0, 1.0]))
        if slope > 0:
            return Calibrator(float(slope), float(intercept))
    (intercept,) = newton(ones[:, None], z, y, np.zeros(1))
    return Calibrator(1.0, float(intercept))


def levelled(calibrator: AnyCalibrator, logits: np.ndarray, y: np.ndarray) -> AnyCalibrator:
    """`calibrator` shifted so that its p of `logits` [n] sum to the conversions of `y` [n].

    For a model that learned from these very rows: another model's calibrator has the right shape for it, but not its
    level. Rows of one class leave it as it is.
    """
    z, labels = calibrator.logit(logits), np.asarray(y, np.float64)
    if not 0 < labels.sum() < len(labels):
        return calibrator
    (by,) = newton(np.ones((len(z), 1)), z, labels, np.zeros(1))
    return calibrator.shifted(float(by))


def newton(design: np.ndarray, offset: np.ndarray, y: np.ndarray, weights: np.ndarray, steps: int = 50) -> np.ndarray:
    """Weights of a logistic regression with `offset` by damped Newton steps from `weights`."""

    def loss(at: np.ndarray) -> float:
        logit = design @ at + offset
        return float((np.logaddexp(0.0, logit) - y * logit).sum())

    for _ in range(steps):
        p = sigmoid(design @ weights + offset)
        hessian = (design * (p * (1 - p))[:, None]).T @ design
        step = np.linalg.solve(hessian + 1e-9 * np.eye(len(weights)), design.T @ (y - p))
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-10))
        while np.abs(step).max() >= 1e-10 and loss(weights + step) > loss(weights):
            step /= 2.0  # a whole Newton step can overshoot, and then go back and forth for ever
        weights = weights + step
        if np.abs(step).max() < 1e-10:
            break
    return weights


def _in_parts(calibrator: Beta | Table, logits: np.ndarray) -> np.ndarray:
    """float32 probabilities of the shape of `logits`, never 0 or 1."""
    flat = np.ascontiguousarray(logits).reshape(-1)
    p = np.empty(len(flat), np.float32)
    for first in range(0, len(flat), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        p[part] = sigmoid(calibrator.logit(flat[part]))
    return np.clip(p, LEAST, MOST, out=p).reshape(logits.shape)


def _through(x: np.ndarray, xs: tuple[float, ...], ys: tuple[float, ...]) -> np.ndarray:
    """The line through the points (xs, ys) at `x`, float64, going on with slope 1 beyond its ends."""
    at = np.asarray(x, np.float64)
    outside = np.minimum(at - xs[0], 0.0) + np.maximum(at - xs[-1], 0.0)
    return np.interp(at, xs, ys) + outside
