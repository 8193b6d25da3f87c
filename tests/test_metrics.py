"""Metrics against scikit-learn and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.metrics import log_loss, roc_auc_score

from ffm_udf.metrics import EPSILON, auc, entropy, row_logloss, sigmoid


@pytest.mark.parametrize("z", [0.0, 1.5, -1.5, 36.0, -36.0, 700.0, -700.0, 1e300, -1e300, math.inf, -math.inf])
def test_sigmoid_of_any_logit_is_a_probability_and_warns_of_nothing(z: float) -> None:
    with np.errstate(all="raise", under="ignore"):
        assert sigmoid(np.array([z]))[0] == pytest.approx(special.expit(z), rel=1e-14)


def test_sigmoid_keeps_the_small_tail() -> None:
    assert sigmoid(np.array([-50.0]))[0] == pytest.approx(math.exp(-50), rel=1e-14)  # 1 / (1 + e^50) to 22 digits


def test_sigmoid_of_float32_is_float64_of_the_same_shape() -> None:
    found = sigmoid(np.zeros((2, 3), np.float32))
    assert (found.dtype, found.shape) == (np.float64, (2, 3))


@settings(deadline=None)
@given(st.lists(st.floats(-700, 700), min_size=1, max_size=30))
def test_sigmoid_is_symmetric_and_ascends(logits: list[float]) -> None:
    z = np.sort(logits)
    p = sigmoid(z)
    assert (np.diff(p) >= 0).all()
    np.testing.assert_allclose(p + sigmoid(-z), 1.0, atol=1e-15)


def test_row_logloss_by_hand() -> None:
    found = row_logloss(np.array([1, 0, 1, 0]), np.array([0.5, 0.5, 0.25, 0.9]))
    np.testing.assert_allclose(found, [math.log(2), math.log(2), math.log(4), math.log(10)], rtol=1e-14)


def test_an_impossible_row_costs_much_but_not_everything() -> None:
    found = row_logloss(np.array([1, 0, 0, 1]), np.array([0.0, 1.0, 0.0, 1.0]))
    # The log of 1 - (1 - EPSILON) carries the rounding of 1 - 1e-12: about 1e-4 of it.
    np.testing.assert_allclose(found, [-math.log(EPSILON), -math.log(EPSILON), 0.0, 0.0], rtol=1e-4, atol=1e-11)


def draw(seed: int, n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 4, n)
    return (rng.random(n) < p).astype(np.int8), p


@pytest.mark.parametrize("seed", range(3))
def test_logloss_is_scikit_learns(seed: int) -> None:
    y, p = draw(seed)
    assert row_logloss(y, p).mean() == pytest.approx(log_loss(y, p), rel=1e-12)


@pytest.mark.parametrize("steps", [2, 5, 50, 10**6])
def test_auc_is_scikit_learns_with_and_without_ties(steps: int) -> None:
    y, p = draw(steps)
    score = np.floor(p * steps)
    assert auc(y, score) == pytest.approx(roc_auc_score(y, score), rel=1e-12)


def test_auc_by_hand() -> None:
    # Converted 3 and 1, not converted 2 and 1: 3 beats both, 1 ties once: 2.5 of 4 pairs.
    assert auc(np.array([1, 0, 1, 0]), np.array([3.0, 2.0, 1.0, 1.0])) == 2.5 / 4
    assert auc(np.array([1, 0]), np.array([5.0, 5.0])) == 0.5


@pytest.mark.parametrize("y", [[0, 0], [1, 1], []])
def test_one_class_has_no_auc(y: list[int]) -> None:
    assert math.isnan(auc(np.array(y), np.zeros(len(y))))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-5, 5)), min_size=1, max_size=25))
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[int, int]]) -> None:
    y, score = np.array(rows).T
    pairs = [(a > b) + (a == b) / 2 for a in score[y == 1] for b in score[y == 0]]
    expected = np.mean(pairs) if pairs else math.nan
    assert auc(y, score) == pytest.approx(expected, nan_ok=True)
    assert auc(1 - y, -score) == pytest.approx(expected, nan_ok=True)


def test_entropy_is_the_logloss_of_the_base_rate() -> None:
    y = np.array([1] * 3 + [0] * 7)
    assert entropy(0.3) == pytest.approx(log_loss(y, np.full(10, 0.3)), rel=1e-12)
    assert entropy(0.5) == pytest.approx(math.log(2))
    assert (entropy(0.0), entropy(1.0)) == (0.0, 0.0)
