"""The hierarchical prior against numbers worked out by hand and limits that must hold."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffm_udf.metrics import sigmoid
from ffm_udf.prior import HierarchicalPrior

# Columns: category (ids 0, 1, 2), family (3, 4, 5, 6), household (7, 8, 9). 0, 3 and 7 are never trained on here.
X = np.array(
    [
        [1, 4, 8],
        [1, 4, 8],
        [1, 4, 9],
        [1, 5, 9],
        [2, 6, 8],
        [2, 6, 9],
    ],
    np.int32,
)
Y = np.array([1, 1, 0, 0, 0, 0], np.int8)
BASE = 1 / 3
# strength 3: category 1 has 2 of 4, (2 + 3/3) / 7 = 3/7; category 2 has 0 of 2, (0 + 1) / 5 = 1/5.
CATEGORY = {0: BASE, 1: 3 / 7, 2: 1 / 5}
# Shrunk to their category: family 4 has 2 of 3, (2 + 9/7) / 6 = 23/42; 5 has 0 of 1, (9/7) / 4 = 9/28; 6 has 0 of 2,
# (3/5) / 5 = 3/25.
FAMILY = {3: BASE, 4: 23 / 42, 5: 9 / 28, 6: 3 / 25}
# Household 8: 2 of an expected 2 · 23/42 + 3/25; household 9: 0 of 23/42 + 9/28 + 3/25. One pseudo-conversion each.
LIFT = {7: 1.0, 8: 3 / (1 + 2 * 23 / 42 + 3 / 25), 9: 1 / (1 + 23 / 42 + 9 / 28 + 3 / 25)}


@pytest.fixture
def prior() -> HierarchicalPrior:
    return HierarchicalPrior([0, 1], 2, strength=3.0).fit(X, Y, n_features=10)


def test_rates_and_lifts_by_hand(prior: HierarchicalPrior) -> None:
    assert prior.base_rate_ == pytest.approx(BASE)
    assert dict(enumerate(prior.rates_[0][:3])) == pytest.approx(CATEGORY)
    assert dict(enumerate(prior.rates_[1][3:7], start=3)) == pytest.approx(FAMILY)
    assert dict(enumerate(prior.lift_[7:], start=7)) == pytest.approx(LIFT)


def test_the_score_is_the_finest_rate_times_the_lift(prior: HierarchicalPrior) -> None:
    logits = prior.decision_function(np.array([[1, 5, 8], [2, 6, 9]], np.int32))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(sigmoid(logits), [FAMILY[5] * LIFT[8], FAMILY[6] * LIFT[9]], rtol=1e-6)


def test_unknown_entity_and_candidate_score_the_base_rate(prior: HierarchicalPrior) -> None:
    assert sigmoid(prior.decision_function(np.array([[0, 3, 7]], np.int32)))[0] == pytest.approx(BASE, rel=1e-6)


def test_no_strength_leaves_the_observed_rates() -> None:
    found = HierarchicalPrior([1], 2, strength=1e-12).fit(X, Y, n_features=10)
    np.testing.assert_allclose(found.rates_[0][4:7], [2 / 3, 0, 0], atol=1e-9)


def test_endless_strength_leaves_the_base_rate() -> None:
    found = HierarchicalPrior([0, 1], 2, strength=1e12).fit(X, Y, n_features=10)
    np.testing.assert_allclose(found.rates_, BASE, rtol=1e-9)


@pytest.mark.parametrize(("y", "bound"), [(0, -10.0), (1, 10.0)])
def test_one_class_gives_finite_logits(y: int, bound: float) -> None:
    found = HierarchicalPrior([0, 1], 2).fit(X, np.full(6, y), n_features=10)
    logits = found.decision_function(X)
    assert np.isfinite(logits).all()
    assert (np.sign(logits) == math.copysign(1, bound)).all()
    assert (np.abs(logits) > abs(bound)).all()


def test_a_rate_times_a_lift_above_one_is_cut_off() -> None:
    # Family 1 always converts, family 0 seldom; household 3 converts with both.
    rows = np.array([[1, 3]] * 50 + [[0, 3]] * 50 + [[0, 2]] * 900, np.int32)
    found = HierarchicalPrior([0], 1, strength=1.0).fit(rows, np.r_[np.ones(100), np.zeros(900)], n_features=4)
    assert found.rates_[0][1] * found.lift_[3] > 1
    logit = found.decision_function(np.array([[1, 3]], np.int32))[0]
    assert logit == pytest.approx(math.log((1 - 1e-9) / 1e-9), rel=1e-6)
    assert sigmoid(logit) < 1


def test_a_saved_prior_scores_the_same(prior: HierarchicalPrior, tmp_path: Path) -> None:
    prior.save(tmp_path / "model")
    again = HierarchicalPrior.load(tmp_path / "model")
    np.testing.assert_array_equal(again.decision_function(X), prior.decision_function(X))
    assert (again.levels, again.entity, again.strength, again.base_rate_) == ([0, 1], 2, 3.0, prior.base_rate_)
    assert again.n_parameters_ == prior.n_parameters_ == 2 * 10 + 10 + 1
    assert not again.rates_.flags.writeable


def test_a_weight_counts_as_that_many_rows() -> None:
    weighted = HierarchicalPrior([0, 1], 2, 3.0).fit(X, Y, sample_weight=[2, 1, 1, 3, 1, 1], n_features=10)
    repeated = HierarchicalPrior([0, 1], 2, 3.0).fit(*(np.repeat(a, [2, 1, 1, 3, 1, 1], axis=0) for a in (X, Y)))
    np.testing.assert_allclose(weighted.rates_, repeated.rates_, rtol=1e-12)
    np.testing.assert_allclose(weighted.lift_, repeated.lift_, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 2), r"levels must name at least one column of X, got \[\]"),
        (([0, -1], 2), r"levels must name at least one column of X, got \[0, -1\]"),
        (([0], -1), "entity must be a column of X, got -1"),
        (([0], 2, 0.0), r"strength must be positive and finite, got 0\.0"),
        (([0], 2, math.nan), "strength must be positive and finite, got nan"),
    ],
)
def test_bad_parameters(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HierarchicalPrior(*arguments)


def test_a_column_that_x_does_not_have() -> None:
    with pytest.raises(ValueError, match="levels and entity must be columns of X, got column 3 of 3"):
        HierarchicalPrior([0, 1], 3).fit(X, Y)


rows = st.lists(st.tuples(st.integers(0, 2), st.integers(3, 6), st.integers(7, 9), st.integers(0, 1)), min_size=2)


@settings(deadline=None)
@given(rows, st.floats(0.1, 100))
def test_every_rate_lies_between_the_observed_ones_and_every_score_is_a_probability(
    data: list[tuple[int, ...]], strength: float
) -> None:
    *columns, y = np.array(data, np.int32).T
    ids = np.stack(columns, axis=1)
    found = HierarchicalPrior([0, 1], 2, strength).fit(ids, y, n_features=10)
    # A shrunk rate is a weighted mean of observed rates, so it is one of 0 and 1 only if they all are.
    assert (found.rates_ >= -1e-12).all()
    assert (found.rates_ <= 1 + 1e-12).all()
    for place, column in enumerate((0, 1)):
        # Pseudo-rows carry the parent's mean: conversions expected over the training rows stay between both.
        for feature in np.unique(ids[:, column]):
            mine = y[ids[:, column] == feature].mean()
            above = found.base_rate_ if place == 0 else found.rates_[0][ids[ids[:, column] == feature, 0]].mean()
            low, high = sorted((mine, above))
            assert low - 1e-9 <= found.rates_[place][feature] <= high + 1e-9
    p = sigmoid(found.decision_function(ids))
    assert ((p > 0) & (p < 1)).all()
