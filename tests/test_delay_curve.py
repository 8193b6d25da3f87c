"""The delay curve against numbers by hand, closed forms and worlds whose delays are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from jobs.delay_curve import expected_final, fitted


def curve(rows: list[tuple[int, bool, int]], horizon: int):
    days, converted, n = (np.array(column) for column in zip(*rows, strict=True))
    return fitted(days, converted, n, horizon)


def test_the_curve_by_hand():
    # 100 exposures: 10 convert in the first day; 30 are watched for one day only; of the 60 left 6 convert in the
    # second day, the others stay. S = 0.9, then 0.9 · (1 - 6 / 60) = 0.81; completeness of day 1: 0.1 / 0.19.
    found = curve([(1, True, 10), (1, False, 30), (2, True, 6), (3, False, 54)], 3)
    assert found.at_risk.tolist() == [100, 100, 60, 54]
    assert found.events.tolist() == [0, 10, 6, 0]
    assert found.converted == pytest.approx([0, 0.1, 0.19, 0.19])
    assert found.completeness == pytest.approx([0, 0.1 / 0.19, 1, 1])
    assert found.converted_lo[0] == found.converted_hi[0] == 0
    assert (found.converted_lo[1:] < found.converted[1:]).all()
    assert (found.converted_hi[1:] > found.converted[1:]).all()


def test_counting_the_censored_as_negatives_would_understate():
    # The same without censoring taken into account: 16 of 100 by day 2 instead of 19 %.
    found = curve([(1, True, 10), (1, False, 30), (2, True, 6), (3, False, 54)], 3)
    assert found.converted[-1] > 16 / 100


def test_the_band_of_completeness_is_that_of_a_binomial_where_all_are_final():
    # 100 of 100,000 convert, 40 of them by day 1: log odds of 0.4 with variance 1 / 40 + 1 / 60.
    found = curve([(1, True, 40), (2, True, 60), (2, False, 99_900)], 2)
    half = stats.norm.ppf(0.975) * np.sqrt(1 / 40 + 1 / 60)
    ends = [1 / (1 + 1.5 * np.exp(sign * half)) for sign in (1, -1)]
    assert [found.completeness_lo[1], found.completeness_hi[1]] == pytest.approx(ends, rel=2e-3)
    assert (found.completeness_lo[0], found.completeness_hi[0]) == (0, 0)
    assert (found.completeness_lo[2], found.completeness_hi[2]) == (1, 1)


def test_none_of_a_few_conversions_by_a_day_is_not_surely_none():
    # 10 of 1,000 convert, all on the second of three days: with 10 of 10 later the exact end is 1 - 0.025 ** (1 / 10),
    # and for all of 10 by the second its mirror image.
    found = curve([(2, True, 10), (3, False, 990)], 3)
    end = stats.binomtest(0, 10).proportion_ci(0.95).high
    assert found.completeness.tolist() == [0, 0, 1, 1]
    assert found.completeness_hi == pytest.approx([0, end, 1, 1])
    assert found.completeness_lo == pytest.approx([0, 0, 1 - end, 1])


@pytest.mark.parametrize("rows", [[(1, True, 5), (2, False, 95)], [(3, False, 100)]])
def test_without_an_exposure_watched_to_the_end_or_a_conversion_nothing_is_complete(rows):
    found = curve(rows, 3)
    assert not found.is_known
    assert np.isnan(found.completeness).all()


def test_the_band_holds_the_truth_in_19_of_20_worlds():
    """500 worlds of 3,000 exposures of all ages up to twice the horizon; 10 % convert, geometric delays of six days."""
    horizon, day, rng = 20, 5, np.random.default_rng(8)
    weights = 0.8 ** np.arange(horizon)
    truth = weights[:day].sum() / weights.sum()
    held = 0
    for _ in range(500):
        age = np.minimum(rng.integers(0, 2 * horizon, 3000), horizon)
        delay = np.where(rng.random(3000) < 0.1, rng.choice(horizon, 3000, p=weights / weights.sum()), 10**6)
        converted = delay < age
        pairs, n = np.unique([np.where(converted, delay + 1, age), converted], axis=1, return_counts=True)
        found = fitted(pairs[0], pairs[1].astype(bool), n, horizon)
        held += found.completeness_lo[day] <= truth <= found.completeness_hi[day]
    assert 0.92 <= held / 500 <= 0.98  # three standard errors of 1 %


def test_what_is_expected_is_what_is_known_over_its_share():
    value, lo, hi = expected_final(30, 0.75, 0.75, 0.75)
    assert value == pytest.approx(40)
    # Twice: level from Jeffreys' posterior given 30 seen, then Poisson with what is left of it.
    rng = np.random.default_rng(1)
    to_come = rng.poisson(rng.gamma(30.5, 1 / 0.75, 400_000) * 0.25)
    assert [lo - 30, hi - 30] == pytest.approx(np.quantile(to_come, [0.025, 0.975]), abs=1)
    assert lo > 30  # what is known cannot go away


def test_an_unsure_share_widens_and_a_final_one_does_not():
    sure, unsure = expected_final(30, 0.75, 0.75, 0.75), expected_final(30, 0.75, 0.6, 0.9)
    assert unsure[0] == sure[0]
    assert unsure[1] < sure[1] < sure[2] < unsure[2]
    assert expected_final(7, 1.0, 1.0, 1.0) == (7, 7, 7)


def test_of_nothing_seen_nothing_is_expected():
    assert expected_final(0, 0.0, 0.0, 0.0) == (None, None, None)
    value, lo, hi = expected_final(0, 0.5, 0.0, 1.0)
    assert (value, lo, hi) == (0, 0, None)
