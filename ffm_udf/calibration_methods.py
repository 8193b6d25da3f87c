"""Fitting what bends: beta calibration, isotonic regression and inductive Venn-Abers, each on logits and labels.

Isotonic regression and Venn-Abers end as tables of at most KNOTS knots. NumPy and numba only: they are fitted in tasks.
"""

from __future__ import annotations

import functools
from typing import Literal, get_args

import numpy as np
from numba.core import types

from ffm_udf.calibration import AnyCalibrator, Beta, Calibrator, Table, newton
from ffm_udf.calibration import fit as fit_platt
from ffm_udf.kernels import array, compile_kernel

type Method = Literal["platt", "beta", "isotonic", "venn_abers"]
METHODS: tuple[Method, ...] = get_args(Method.__value__)

KNOTS = 256  # of a table, at most: a card stays small and a lookup in the cache
GROUPS = 4096  # of equal logits that Venn-Abers tells apart: coarser scores keep its guarantee
DIGITS = 9  # of a knot: as good as float32 logits, and JSON gives them back the same


def fit(method: Method, logits: np.ndarray, y: np.ndarray) -> AnyCalibrator:
    """The calibrator of `method` learned from `logits` float [n] and `y` 0/1 [n].

    One class only cannot be calibrated: that is the identity, whatever the method. Raises ValueError for a method that
    is none.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    y = np.asarray(y)
    if not len(y) or y.min() == y.max():
        return Calibrator()
    how = {"platt": fit_platt, "beta": fit_beta, "isotonic": fit_isotonic, "venn_abers": fit_venn_abers}
    return how[method](np.asarray(logits), y)


def fit_beta(logits: np.ndarray, y: np.ndarray) -> AnyCalibrator:
    """Maximum likelihood a, b, c of `Beta` with a, b >= 0 (Kull, Silva Filho and Flach 2017, §4).

    The likelihood is concave, so where it asks for a negative a or b the best allowed point has a zero there. Where
    neither may be positive the order of the scores cannot be kept with them, and Platt's intercept is what remains.
    """
    z, y = np.asarray(logits, np.float64), np.asarray(y, np.float64)
    columns = {"a": -np.logaddexp(0.0, -z), "b": np.logaddexp(0.0, z)}
    best, least = None, np.inf
    for free in (("a", "b"), ("a",), ("b",)):
        design = np.stack([np.ones_like(z), *(columns[name] for name in free)], axis=1)
        weights = newton(design, np.zeros_like(z), y, np.array([0.0, *(1.0 for _ in free)]))
        if (weights[1:] > 0).all():
            logit = design @ weights
            loss = float((np.logaddexp(0.0, logit) - y * logit).sum())
            if loss < least:
                least, best = loss, dict(zip(("c", *free), weights.tolist(), strict=True))
        if len(free) == 2 and best is not None:
            break  # inside of what is allowed nothing on its edge is better
    return fit_platt(logits, y) if best is None else Beta(best.get("a", 0.0), best.get("b", 0.0), best["c"])


def fit_isotonic(logits: np.ndarray, y: np.ndarray) -> Table:
    """Isotonic regression (Zadrozny and Elkan 2002): the non-decreasing p of least squared, and logistic, error.

    A knot stands at both ends of every block of equal p, so the table is scikit-learn's IsotonicRegression at every
    logit it was fitted on. Of more than KNOTS / 2 blocks neighbours are pooled. A block without a conversion, or of
    nothing else, counts half a one more: p is never 0 or 1.
    """
    x, weight, positive = grouped(logits, y)
    first, last = blocks(weight, positive)
    if len(first) > KNOTS // 2:
        # Pooled neighbours are about as many conversions and rows each as any others.
        rank = np.cumsum(np.add.reduceat(weight / weight.sum() + positive / positive.sum(), first))
        kept = np.unique(np.searchsorted(rank, np.linspace(0, rank[-1], KNOTS // 2, endpoint=False), "right"))
        first = first[kept]
        last = np.append(first[1:] - 1, len(x) - 1)
    n, s = np.add.reduceat(weight, first), np.add.reduceat(positive, first)
    rate = s / n
    inside = rate[(rate > 0) & (rate < 1)]
    low, high = (inside[0], inside[-1]) if len(inside) else (1.0, 0.0)
    rate = np.where(s == 0, np.minimum(0.5 / (n + 1), low), rate)
    rate = np.where(s == n, np.maximum((n + 0.5) / (n + 1), high), rate)
    rate = np.maximum.accumulate(rate)
    knots, heights = np.stack([x[first], x[last]], axis=1).ravel(), np.repeat(np.log(rate) - np.log1p(-rate), 2)
    return _table("isotonic", knots, heights)


def fit_venn_abers(logits: np.ndarray, y: np.ndarray) -> Table:
    """Inductive Venn-Abers (Vovk, Petej and Fedorova 2015) at KNOTS / 2 of the logits: p = p1 / (1 - p0 + p1).

    p0 and p1 are the isotonic regressions at a logit once it is added to the rows with label 0 and with label 1. The
    one number is the one that minimises the worst regret of logloss. Logits are first rounded into GROUPS groups.
    """
    x, weight, positive = grouped(logits, y)
    if len(x) > GROUPS:
        starts = np.unique(np.searchsorted(np.cumsum(weight), np.linspace(0, weight.sum(), GROUPS, endpoint=False)))
        mean = np.add.reduceat(x * weight, starts) / np.add.reduceat(weight, starts)
        x, weight, positive = mean, np.add.reduceat(weight, starts), np.add.reduceat(positive, starts)
    # Half of the knots where the rows are, half where the conversions are.
    at = [np.searchsorted(np.cumsum(of) / of.sum(), np.linspace(0, 1, KNOTS // 4)) for of in (weight, positive)]
    places = np.unique(np.clip(np.concatenate([[0, len(x) - 1], *at]), 0, len(x) - 1))
    p0, p1 = (np.array([_with(weight, positive, place, label) for place in places]) for label in (0.0, 1.0))
    log_odds = np.log(p1) - np.log1p(-p0)  # of p1 / (1 - p0 + p1)
    return _table("venn_abers", x[places], log_odds)


def grouped(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different values of `x` in order, with the rows and the positives of each, float64."""
    values, inverse, counts = np.unique(np.asarray(x, np.float64), return_inverse=True, return_counts=True)
    positive = np.bincount(inverse, np.asarray(y, np.float64), len(values))
    return values, counts.astype(np.float64), positive


def blocks(weight: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last group of every block of the isotonic regression of positive / weight, int64, weight > 0."""
    start = np.empty(len(weight), np.int64)
    n, s = np.empty(len(weight)), np.empty(len(weight))
    count = pooler()(np.ascontiguousarray(weight), np.ascontiguousarray(positive), start, n, s)
    first = start[:count].copy()
    return first, np.append(first[1:] - 1, len(weight) - 1)


def isotonic(weight: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """The isotonic regression itself at every group, float64."""
    first, last = blocks(weight, positive)
    rate = np.add.reduceat(positive, first) / np.add.reduceat(weight, first)
    return np.repeat(rate, last - first + 1)


@functools.cache
def pooler():
    """Kernel `pool`."""

    def pool(weight, positive, start, n, s):
        """Pool adjacent violators: the number of blocks; their first groups in `start`, sums in `n` and `s`."""
        count = 0
        for group in range(len(weight)):
            start[count] = group
            n[count] = weight[group]
            s[count] = positive[group]
            # Ties are pooled too: a block is as long as its height lasts.
            while count > 0 and s[count - 1] * n[count] >= s[count] * n[count - 1]:
                count -= 1
                n[count] += n[count + 1]
                s[count] += s[count + 1]
            count += 1
        return count

    given, sums = array(types.float64, 1), array(types.float64, 1, False)
    signature = types.int64(given, given, array(types.int64, 1, False), sums, sums)
    return compile_kernel(pool, "blocks", signature)


def _with(weight: np.ndarray, positive: np.ndarray, place: int, label: float) -> float:
    """The isotonic regression at group `place` with one more row there, of `label`."""
    more, converted = weight.copy(), positive.copy()
    more[place] += 1.0
    converted[place] += label
    first, last = blocks(more, converted)
    block = int(np.searchsorted(first, place, "right")) - 1
    inside = slice(first[block], last[block] + 1)
    return float(converted[inside].sum() / more[inside].sum())


def _table(method: Literal["isotonic", "venn_abers"], knots: np.ndarray, heights: np.ndarray) -> Table:
    """The table of rounded knots, of which equal ones are left out."""
    at = np.round(knots, DIGITS)
    kept = np.flatnonzero(np.append(True, np.diff(at) > 0))
    heights = np.maximum.accumulate(np.round(heights, DIGITS))
    return Table(method, tuple(at[kept].tolist()), tuple(heights[kept].tolist()))
