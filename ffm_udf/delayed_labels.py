"""Training sets from labels that are not all final yet: which rows, which labels, which weights. NumPy only.

Of every row are known its `age`, days from exposure to now; its `delay`, days from exposure to conversion, infinite if
it never converts; and the label's `window` in days. Now a conversion is seen if delay < min(age, window).

The four ways differ in what they make of a row that has not converted and whose window is still open. `oracle` peeks at
the final label: no method can do that, it is what the others are measured by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

METHODS = ("mature_only", "naive", "fake_negatives", "importance_weights", "oracle")
HIGHEST_WEIGHT = 20.0  # of a conversion seen so early that hardly any are; bounds the variance


@dataclass(frozen=True)
class Labelled:
    """Rows to train on: `rows` int64 [m], places in the arrays, a row may come twice; `y` int8 [m]; `weight` float32
    [m]."""

    rows: np.ndarray
    y: np.ndarray
    weight: np.ndarray


def seen(age: np.ndarray, delay: np.ndarray, window: float) -> np.ndarray:
    """Whether a conversion within the window is seen by now, bool [n]."""
    return delay < np.minimum(age, window)


def mature_only(age: np.ndarray, delay: np.ndarray, window: float) -> Labelled:
    """The rows whose window is closed, with their final labels."""
    rows = np.flatnonzero(age >= window)
    return _unweighted(rows, delay[rows] < window)


def naive(age: np.ndarray, delay: np.ndarray, window: float) -> Labelled:
    """All rows; what has not converted yet counts as a negative."""
    return _unweighted(np.arange(len(age)), seen(age, delay, window))


def oracle(age: np.ndarray, delay: np.ndarray, window: float) -> Labelled:
    """All rows with their final labels, which nobody has yet."""
    return _unweighted(np.arange(len(age)), delay < window)


def fake_negatives(
    age: np.ndarray, delay: np.ndarray, window: float, p: np.ndarray | None = None, most: float = 0.99
) -> Labelled:
    """Every row as a negative and, once its conversion is seen, again as a positive (Ktena et al. 2019).

    A model of these rows as they are estimates b = p / (1 + p). With `p` float [n], an estimate of the unbiased
    probability (`unbiased` of such a model), a positive weighs 1 + p and a negative (1 - p)(1 + p), and the weighted
    rows are those of the true distribution. `most` bounds p.
    """
    converted = np.flatnonzero(seen(age, delay, window))
    rows = np.concatenate([np.arange(len(age)), converted])
    y = np.repeat(np.array([0, 1], np.int8), [len(age), len(converted)])
    if p is None:
        return Labelled(rows, y, np.ones(len(rows), np.float32))
    bounded = np.clip(p, 0.0, most)[rows]
    weight = np.where(y == 1, 1 + bounded, (1 - bounded) * (1 + bounded))
    return Labelled(rows, y, weight.astype(np.float32))


def unbiased(biased: np.ndarray, most: float = 0.99) -> np.ndarray:
    """p = b / (1 - b) of a model of fake negatives, at most `most` (Ktena et al. 2019)."""
    b = np.asarray(biased, np.float64)
    return np.minimum(b / np.maximum(1 - b, 1e-12), most)


def importance_weights(
    age: np.ndarray, delay: np.ndarray, window: float, curve: np.ndarray, group: np.ndarray
) -> Labelled:
    """All rows as they look now, weighted so that the loss is that of the final labels (FSIW of Yasui et al. 2020).

    `curve` float [groups, days + 1]: share of all exposures that converts within so many days, the last column within
    the window; `group` int [n]: the group of each row. A conversion seen at age a weighs 1 / P(seen by a | converts)
    = F(window) / F(a), at most HIGHEST_WEIGHT; a row without one P(never converts | not by a) = (1 - F(window)) /
    (1 - F(a)). Rows whose window is closed weigh 1.
    """
    positive = seen(age, delay, window)
    day = np.clip(np.floor(age), 0, curve.shape[1] - 2).astype(np.int64)
    part = np.clip(age - day, 0, 1)  # of the day that is not over: the curve is a line between its days
    by_now, in_the_end = curve[group, day] * (1 - part) + curve[group, day + 1] * part, curve[group, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        up = np.where(by_now > 0, in_the_end / by_now, HIGHEST_WEIGHT)
    down = (1 - in_the_end) / np.maximum(1 - by_now, 1e-12)
    weight = np.where(positive, np.minimum(up, HIGHEST_WEIGHT), down)
    weight = np.where(age >= window, 1.0, weight)
    return Labelled(np.arange(len(age)), positive.astype(np.int8), weight.astype(np.float32))


def _unweighted(rows: np.ndarray, y: np.ndarray) -> Labelled:
    return Labelled(rows, y.astype(np.int8), np.ones(len(rows), np.float32))
