"""How many test periods decide: against published sample sizes, simulation and the cases that have no answer."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from jobs.power import error_of, periods_needed

# One-sample t test, two-sided 5 %, 80 % power: R's pwr.t.test gives 198.2, 33.4 and 14.3 for Cohen's small, medium and
# large effect (in standard deviations of one period).
PUBLISHED = [(0.2, 199), (0.5, 34), (0.8, 15)]


@pytest.mark.parametrize(("effect", "periods"), PUBLISHED)
@pytest.mark.parametrize("seen", [2, 9, 400])
def test_published_sample_sizes(effect: float, periods: int, seen: int) -> None:
    """The deviation of one period is the error seen times the root of the periods seen, whichever these are."""
    assert periods_needed(1.0 / math.sqrt(seen), seen, effect) == periods


@pytest.mark.parametrize("effect", [0.35, 1.2])
def test_the_interval_excludes_the_target_as_often_as_asked(effect: float) -> None:
    needed = periods_needed(1 / 3, 9, effect)
    assert needed is not None
    rng = np.random.default_rng(1)
    for periods, is_enough in ((needed, True), (needed - 1, False)):
        samples = rng.normal(effect, 1.0, (200_000, periods))
        half = stats.t.ppf(0.975, periods - 1) * samples.std(axis=1, ddof=1) / math.sqrt(periods)
        share = (samples.mean(axis=1) - half > 0).mean()
        assert (share >= 0.8 - 0.003) if is_enough else (share < 0.8 + 0.003)  # 3 standard errors of the share


def test_more_power_needs_more_periods_and_a_wider_interval_too() -> None:
    needed = [periods_needed(0.3, 9, 0.5, power, level) for power, level in ((0.5, 0.95), (0.8, 0.95), (0.8, 0.99))]
    assert needed == sorted(set(needed))


def test_where_t_and_normal_meet_nothing_jumps() -> None:
    near = [periods_needed(1 / 3, 9, effect) for effect in (0.0887, 0.0886, 0.0885, 0.0884)]
    assert all(0 <= b - a <= 4 for a, b in itertools.pairwise(near))


def test_an_estimate_on_the_wrong_side_has_no_answer() -> None:
    assert periods_needed(0.1, 9, 0.0) is None
    assert periods_needed(0.1, 9, -0.3) is None


def test_without_any_spread_two_periods_are_enough() -> None:
    assert periods_needed(0.0, 9, 0.1) == 2


def test_the_error_behind_an_interval() -> None:
    assert error_of(stats.t.ppf(0.975, 8) * 0.4, 9) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.1, 1, 0.5), "n_periods must be at least 2, got 1"),
        ((-0.1, 9, 0.5), "error must be at least 0, got -0.1"),
        ((math.nan, 9, 0.5), "error must be at least 0, got nan"),
        ((0.1, 9, 0.5, 1.0), r"power must lie between 0 and 1, got 1.0"),
        ((0.1, 9, 0.5, 0.8, 0.0), r"level must lie between 0 and 1, got 0.0"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        periods_needed(*arguments)
