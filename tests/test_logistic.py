"""Logistic regression against the conditions of its optimum."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ffm_udf.logistic import LogisticRegression, one_hot
from ffm_udf.metrics import sigmoid

RNG = np.random.default_rng(7)
LOCAL = RNG.integers(0, 8, (3000, 3))
X = (LOCAL + np.arange(3) * 8).astype(np.int32)
Y = (RNG.random(3000) < sigmoid(RNG.normal(0, 1, 24)[X].sum(axis=1) - 1)).astype(np.int8)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("C", [0.01, 1.0])
def test_the_gradient_vanishes_at_the_solution(weighted: bool, C: float) -> None:
    weight = RNG.uniform(0.5, 2.0, 3000) if weighted else np.ones(3000)
    model = LogisticRegression(grid=(C,), tolerance=1e-8, iterations=2000).fit(X, Y, sample_weight=weight)
    slope = weight * (sigmoid(model.decision_function(X)) - Y)
    # d/dw_j of |w|² / 2 + C Σ weight · logloss = w_j + C Σ over rows with j of weight (p - y); the bias is free.
    gradient = model.weights_[1:] + C * np.bincount(X.ravel(), np.repeat(slope, 3), 24)
    assert np.abs(gradient).max() < 2e-3 * C * np.abs(np.bincount(X.ravel(), np.repeat(weight * (0.5 - Y), 3))).max()
    assert abs(slope.sum()) < 1e-3 * (weight * Y).sum()


def test_hardly_any_regularisation_gives_the_observed_rates() -> None:
    ids = np.repeat([[0], [1]], 500, axis=0).astype(np.int32)
    y = (np.arange(1000) % 500 < np.where(np.arange(1000) < 500, 100, 400)).astype(np.int8)
    model = LogisticRegression(grid=(1e4,), tolerance=1e-9).fit(ids, y)
    # 100 and 400 of 500: log odds of 1/5 and 4/5.
    found = model.decision_function(np.array([[0], [1]], np.int32))
    np.testing.assert_allclose(found, [math.log(1 / 4), math.log(4)], rtol=1e-3)


def test_the_best_of_the_grid_on_the_validation_rows_is_kept() -> None:
    small, valid = slice(0, 150), (X[1500:], Y[1500:])
    model = LogisticRegression(grid=(10.0, 0.001, 0.3)).fit(X[small], Y[small], eval_set=valid)
    assert [trial["C"] for trial in model.trials_] == [0.001, 0.3, 10.0]
    losses = [trial["valid_logloss"] for trial in model.trials_]
    alone = [LogisticRegression(grid=(C,)).fit(X[small], Y[small]) for C in (0.001, 0.3, 10.0)]
    for loss, single in zip(losses, alone, strict=True):
        z = single.decision_function(valid[0]).astype(float)
        assert loss == pytest.approx(np.mean(np.logaddexp(0, z) - valid[1] * z), rel=1e-3)
    assert model.C_ == 0.3  # neither far too stiff nor free for 150 rows and 24 ids
    assert losses[1] == min(losses)
    # Reached from the stiffer solution, but the same optimum.
    np.testing.assert_allclose(model.weights_, alone[1].weights_, atol=5e-3)


def test_without_validation_rows_the_first_of_the_grid_is_taken() -> None:
    model = LogisticRegression(grid=(0.3, 1.0)).fit(X, Y)
    assert model.C_ == 0.3
    assert model.trials_[0]["valid_logloss"] is None
    assert len(model.trials_) == 1


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="y must have both classes for a logistic regression, got only 0"):
        LogisticRegression().fit(X, np.zeros(3000))


def test_the_design_matrix_is_the_rows_themselves() -> None:
    design = one_hot(X, 24)
    assert np.shares_memory(design.indices, X)
    np.testing.assert_array_equal(design.toarray()[:5], np.eye(24)[X[:5]].sum(axis=1))
