"""Self-test of promotion: challengers whose true logloss is known to be the incumbent's, or worse by so much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import optimize

from ffm_udf.metrics import sigmoid
from jobs import comparison
from jobs.power import periods_needed
from jobs.promotion import is_earned
from jobs.self_test import MARGIN, Share, model_sums, period_rows
from jobs.truth_models import Stored

Model = tuple[int, int]


def challenger_at(incumbent: np.ndarray, other: np.ndarray, rates: np.ndarray, gap: float) -> np.ndarray:
    """Probabilities of a challenger whose expected logloss is (1 + gap) times that of `incumbent` exactly, and which
    differs from it as `other` does: on the line of log-odds from one through the other, where the loss is convex.

    All float64 [n]; `gap` at least 0.
    """
    start, far = (np.log(p) - np.log1p(-p) for p in (incumbent, other))

    def loss(step: float) -> float:
        z = start + step * (far - start)
        return float((np.logaddexp(0.0, z) - rates * z).mean())

    best, wanted = float(optimize.minimize_scalar(loss).x), loss(0.0) * (1.0 + gap)
    end = 2.0 * best
    while loss(end) <= wanted:
        end += best
    step = float(optimize.brentq(lambda step: loss(step) - wanted, best, end, xtol=1e-14))
    return sigmoid(start + step * (far - start))


class Challenge:
    """An incumbent and challengers with (1 + gap) times its true logloss, different from it as each of `others` is. Of
    several the one with the lowest logloss on the test periods challenges: chosen on them, then judged on them."""

    def __init__(self, stored: Stored, incumbent: Model, others: Sequence[Model], gap: float) -> None:
        rates = stored.pool({"n": (1.0, 0.0)}).rates()
        p = stored.p[incumbent]
        models = {f"challenger {i}": challenger_at(p, stored.p[one], rates, gap) for i, one in enumerate(others)}
        sums = model_sums({"incumbent": p, **models})
        self.challengers, self.names, self.pool = list(models), list(sums), stored.pool(sums)

    def compared(self, worlds: int, n_periods: int, seed: int) -> list[dict]:
        """The comparison that is printed, in each of so many worlds."""
        at = [self.names.index(f"sum_logloss {model_id}") for model_id in self.challengers]
        found = []
        for world in self.pool.draw(worlds, n_periods, seed):
            chosen = self.challengers[int(world[:, at].sum(axis=0).argmin())]
            rows = period_rows(["incumbent", chosen], self.names, world)
            found.append(comparison.compare_incumbent(rows, chosen, "incumbent", MARGIN))
        return found

    def promoted(self, is_cheaper: bool, worlds: int, n_periods: int, seed: int) -> Share:
        """How often the challenger has earned the place."""
        found = self.compared(worlds, n_periods, seed)
        earned = [is_earned(row["delta_lo"], row["delta_hi"], row["margin"], is_cheaper) for row in found]
        return Share("promoted", sum(earned), worlds)

    def periods_for(self, power: float, worlds: int, n_periods: int, seed: int) -> int | None:
        """What the product says about so many periods: how many in all would let an equal and cheaper challenger pass
        with probability `power`, from the mean squared standard error over worlds."""
        found = self.compared(worlds, n_periods, seed)
        error = float(np.sqrt(np.mean([row["delta_se"] ** 2 for row in found])))
        return periods_needed(error, n_periods, float(np.mean([row["margin"] for row in found])), power)
