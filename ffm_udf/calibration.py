"""Logistic (Platt) recalibration: p = sigmoid(slope · logit + intercept), fitted on periods of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffm_udf.metrics import sigmoid


@dataclass(frozen=True)
class Calibrator:
    """Slope and intercept on the logit scale; (1, 0) changes nothing."""

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64 of the shape of `logits`."""
        return sigmoid(self.slope * np.asarray(logits, np.float64) + self.intercept)


def fit(logits: np.ndarray, y: np.ndarray, steps: int = 50) -> Calibrator:
    """Maximum likelihood slope and intercept by Newton's method (Platt 1999, without his smoothed targets).

    `logits` float [n], `y` 0/1 [n]. One class only cannot be calibrated: the identity is returned. Constant logits
    determine the intercept only: the slope stays 1.
    """
    z, y = np.asarray(logits, np.float64), np.asarray(y, np.float64)
    rate = y.mean() if len(y) else 0.0
    if not 0 < rate < 1:
        return Calibrator()
    columns = [np.ones_like(z)] if np.ptp(z) < 1e-9 else [np.ones_like(z), z]
    design, offset = np.stack(columns, axis=1), z if len(columns) == 1 else np.zeros_like(z)
    weights = np.zeros(len(columns))
    if len(columns) == 2:
        weights[1] = 1.0
    for _ in range(steps):
        p = sigmoid(design @ weights + offset)
        gradient = design.T @ (y - p)
        hessian = (design * (p * (1 - p))[:, None]).T @ design
        step = np.linalg.solve(hessian + 1e-9 * np.eye(len(weights)), gradient)
        weights += np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            break
    return Calibrator(1.0 if len(weights) == 1 else float(weights[1]), float(weights[0]))
