"""Fresh labels on stored predictions: many worlds that differ in what happened, not in what was predicted.

A world is some periods drawn with replacement from a pool, each with a shift of its log-odds that all its rows share,
and labels drawn from the rates that follow. So periods are alike and independent, as an interval over periods takes
them to be, and rows of one period are not. All that is compared is a sum over rows of what a row has anyway plus what
it adds if it converts; hence sums per world and period are all that is kept, and their expectations are known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

NODES = 16  # of the Gauss–Hermite rule for the shift; its error is far below that of double sums here


@dataclass(frozen=True)
class Pool:
    """Periods with known rates, rows in order of the period.

    first: int64 [periods + 1], the first row of each period. log_odds: float64 [n] of converting at all. within:
    float64 [n], share of the conversions that count. anyway: float64 [periods, sums]; added: float64 [n, sums], what a
    row adds to each sum if it converts. shift_sd: spread of a period's shift.
    """

    first: np.ndarray
    log_odds: np.ndarray
    within: np.ndarray
    anyway: np.ndarray
    added: np.ndarray
    shift_sd: float

    def expected(self) -> np.ndarray:
        """The expectation of each sum in each period over shifts and labels, float64 [periods, sums]."""
        return self.anyway + np.add.reduceat(self.rates()[:, None] * self.added, self.first[:-1], axis=0)

    def rates(self) -> np.ndarray:
        """The conversion rate of each row, expected over shifts, float64 [n]."""
        points, weights = np.polynomial.hermite_e.hermegauss(NODES)
        odds, found = np.exp(-self.log_odds), np.zeros(len(self.log_odds))
        for point, weight in zip(points, weights / weights.sum(), strict=True):
            found += weight / (1.0 + odds * np.exp(-self.shift_sd * point))
        return found * self.within

    def draw(self, worlds: int, n_periods: int, seed: int, repeats: int = 1) -> np.ndarray:
        """The sums of each world, float64 [worlds, n_periods, sums]; every row is shown `repeats` times, each time with
        a label of its own."""
        rng = np.random.default_rng([seed, worlds, n_periods, repeats])
        chosen = rng.integers(0, len(self.first) - 1, (worlds, n_periods))
        shifts = np.exp(-self.shift_sd * rng.standard_normal((worlds, n_periods)))
        streams = rng.integers(0, 2**64, (worlds, n_periods), dtype=np.uint64)
        found = repeats * self.anyway[chosen]
        _label(self.first, np.exp(-self.log_odds), self.within, self.added, chosen, shifts, streams, repeats, found)
        return found


@njit(cache=True, nogil=True)
def _label(first, odds, within, added, chosen, shifts, streams, repeats, found):
    """Adds what converts to `found` [worlds, periods, sums], in place.

    `odds` [n] are those against converting, which `shifts` [worlds, periods] multiply. Uniform numbers are SplitMix64
    (Steele, Lea and Flood 2014) from `streams` [worlds, periods].
    """
    n_worlds, n_periods = chosen.shape
    for world in range(n_worlds):
        for place in range(n_periods):
            state, shift = streams[world, place], shifts[world, place]
            for row in range(first[chosen[world, place]], first[chosen[world, place] + 1]):
                rate = within[row] / (1.0 + odds[row] * shift)
                for _ in range(repeats):
                    state += np.uint64(0x9E3779B97F4A7C15)
                    bits = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                    bits ^= bits >> np.uint64(31)
                    if np.float64(bits >> np.uint64(11)) * 2.0**-53 < rate:
                        for column in range(added.shape[1]):
                            found[world, place, column] += added[row, column]
