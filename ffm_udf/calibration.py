"""Logistic (Platt) recalibration: p = sigmoid(slope · logit + intercept), fitted on periods of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffm_udf.metrics import sigmoid

# The float32 nearest to 0 and to 1 that are not these.
LEAST, MOST = np.finfo(np.float32).tiny, np.nextafter(np.float32(1.0), np.float32(0.0))


@dataclass(frozen=True)
class Calibrator:
    """Slope and intercept on the logit scale; (1, 0) changes nothing."""

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
        intercept, slope = _newton(np.stack([ones, z], axis=1), np.zeros_like(z), y, np.array([0.0, 1.0]))
        if slope > 0:
            return Calibrator(float(slope), float(intercept))
    (intercept,) = _newton(ones[:, None], z, y, np.zeros(1))
    return Calibrator(1.0, float(intercept))


def _newton(design: np.ndarray, offset: np.ndarray, y: np.ndarray, weights: np.ndarray, steps: int = 50) -> np.ndarray:
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
