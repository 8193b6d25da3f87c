"""The distribution of totals: its spread by hand, and its coverage where households and periods vary."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.profit_distribution import Draws, quantiles, redrawn, totals


def test_redrawn_clusters_keep_their_number_and_their_mean() -> None:
    draws = Draws.of(30, 4, seed=1, replicates=4000)
    assert set(draws.weights.sum(axis=1)) == {30.0}
    sums = np.random.default_rng(0).gamma(1, 1, (30, 4, 2))
    found = redrawn(sums, draws)
    assert found.shape == (4000, 4, 2)
    np.testing.assert_allclose(found[7], np.einsum("c,cpq->pq", draws.weights[7], sums))
    # The variance of a total of n redrawn values is n times their variance (with 1 / n).
    spread = found[:, :, 0].sum(axis=1).var()
    assert spread == pytest.approx(30 * sums[:, :, 0].sum(axis=1).var(), rel=0.1)
    assert found.mean(axis=0) == pytest.approx(sums.sum(axis=0), rel=0.05)


def test_periods_count_for_what_households_do_not_explain() -> None:
    """All households alike, so that redrawing them changes nothing: periods alone vary, and t with 3 degrees of freedom
    has 5th and 95th percentiles at -+2.353."""
    observed = np.array([10.0, 12.0, 9.0, 13.0])
    draws = Draws.of(20, 4, seed=2, replicates=200_000)
    low, middle, high = quantiles(np.broadcast_to(observed, (200_000, 4)), observed, draws)
    half = 2.3534 * np.sqrt(4) * observed.std(ddof=1)
    assert (low, middle, high) == pytest.approx((44 - half, 44, 44 + half), rel=0.01)


def test_one_period_has_the_spread_of_households_alone() -> None:
    sums = np.arange(1.0, 21.0).reshape(20, 1, 1)
    draws = Draws.of(20, 1, seed=3)
    found = redrawn(sums, draws)[:, :, 0]
    assert (totals(found, sums.sum(axis=(0, 2)), draws) == found[:, 0]).all()


@pytest.mark.parametrize(("household", "period", "noise"), [(0.0, 0.0, 1.0), (0.5, 0.0, 1.0), (0.3, 0.4, 1.0)])
def test_nine_in_ten_expected_totals_lie_between_the_5th_and_the_95th_percentile(
    household: float, period: float, noise: float
) -> None:
    """400 worlds of 120 households x 9 periods with random effects of both. The binomial band of 0.9 is +-0.045 at
    three standard errors; where periods vary no more than households make them, too wide is allowed."""
    rng = np.random.default_rng(9)
    inside = 0
    draws = Draws.of(120, 9, seed=4, replicates=400)
    for _ in range(400):
        cells = 1 + household * rng.normal(0, 1, (120, 1)) + period * rng.normal(0, 1, (1, 9)) / np.sqrt(12)
        cells = cells + noise * rng.normal(0, 1, (120, 9))
        low, _, high = quantiles(redrawn(cells[:, :, None], draws)[:, :, 0], cells.sum(axis=0), draws)
        inside += low <= 120 * 9 <= high
    assert 0.855 <= inside / 400 <= 0.97
