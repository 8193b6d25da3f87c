"""FM against the textbook formula in plain Python, and against what only a pairwise model can learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from ffm_udf.fm import FM, START

N_FIELDS, N_FEATURES, N_ROWS = 4, 12, 40


def rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    local = rng.integers(0, N_FEATURES // N_FIELDS, (N_ROWS, N_FIELDS))
    X = (local + np.arange(N_FIELDS) * (N_FEATURES // N_FIELDS)).astype(np.int32)
    return X, rng.integers(0, 2, N_ROWS).astype(np.int8)


class NaiveFM:
    """Rendle's formula with all pairs written out, in float64: rows divided by their norm, AdaGrad with one sum per
    vector (the mean of its squared gradients), every vector of a row moved by gradients of the weights before."""

    def __init__(self, v: np.ndarray, eta: float, l2: float) -> None:
        self.v, self.w, self.b, self.eta, self.l2 = v.astype(float), np.zeros(len(v)), 0.0, eta, l2
        self.v_sums, self.w_sums, self.b_sum = np.ones(len(v)), np.ones(len(v)), 1.0

    def logit(self, x: np.ndarray) -> float:
        value = 1 / math.sqrt(len(x))
        pairs = sum(self.v[i] @ self.v[j] for i, j in itertools.combinations(x, 2))
        return self.b + value * self.w[x].sum() + value**2 * pairs

    def step(self, x: np.ndarray, y: int, weight: float) -> None:
        value, slope = 1 / math.sqrt(len(x)), weight * (1 / (1 + math.exp(-self.logit(x))) - y)
        before = self.v.copy()
        for i in x:
            partners = sum(before[j] for j in x if j != i)
            gradient = slope * value**2 * partners + self.l2 * before[i]
            self.v_sums[i] += (gradient**2).mean()
            self.v[i] -= self.eta * gradient / math.sqrt(self.v_sums[i])
            linear = slope * value + self.l2 * self.w[i]
            self.w_sums[i] += linear**2
            self.w[i] -= self.eta * linear / math.sqrt(self.w_sums[i])
        self.b_sum += slope**2
        self.b -= self.eta * slope / math.sqrt(self.b_sum)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 8, 16, 17, 50])
@pytest.mark.parametrize("weighted", [False, True])
def test_three_epochs_are_those_of_the_formula(k: int, weighted: bool) -> None:
    X, y = rows(k)
    weight = np.random.default_rng(k).uniform(0.2, 3.0, N_ROWS) if weighted else None
    model = FM(k=k, eta=0.3, l2=0.01, epochs=3, seed=5).fit(X, y, sample_weight=weight)
    low, high = START
    draws = np.random.default_rng([5, 0]).random((N_FEATURES, k), dtype=np.float32)
    naive = NaiveFM((low + (high - low) * draws) / math.sqrt(k), 0.3, 0.01)
    for epoch in (1, 2, 3):
        for row in np.random.default_rng([5, epoch]).permutation(np.arange(N_ROWS, dtype=np.int32)):
            naive.step(X[row], int(y[row]), 1.0 if weight is None else float(weight[row]))
    np.testing.assert_allclose(model.vectors_[:, :k], naive.v, rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(model.linear_[:, 0], [naive.b, *naive.w], rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(model.decision_function(X), [naive.logit(x) for x in X], rtol=1e-3, atol=2e-5)
    assert (model.vectors_[:, k:] == 0).all()  # padding stays empty


def test_the_first_loss_is_that_of_the_first_weights() -> None:
    X, y = rows(0)
    model = FM(k=2, epochs=1, seed=5, eta=1e-9).fit(X, y)
    low, high = START
    draws = np.random.default_rng([5, 0]).random((N_FEATURES, 2), dtype=np.float32)
    naive = NaiveFM((low + (high - low) * draws) / math.sqrt(2), 0.1, 0.0)
    expected = np.mean([np.logaddexp(0, (1 - 2 * label) * naive.logit(x)) for x, label in zip(X, y, strict=True)])
    assert model.history_[0]["train_logloss"] == pytest.approx(expected, rel=1e-6)


def test_learns_what_no_linear_model_can() -> None:
    # y = 1 where two independent coins agree: no single field says anything, so a linear model stays at log 2.
    coins = np.random.default_rng(1).integers(0, 2, (2000, 2))
    X = (coins + np.array([0, 2])).astype(np.int32)
    y = (coins[:, 0] == coins[:, 1]).astype(np.int8)
    model = FM(k=2, epochs=20, seed=1).fit(X, y)
    assert model.history_[-1]["train_logloss"] < 0.2 < math.log(2)


def test_early_stopping_keeps_the_best_epoch() -> None:
    X, y = rows(1)  # labels without a rule: every further epoch is overfitting
    valid = rows(2)
    model = FM(k=4, eta=0.5, epochs=30, patience=3, seed=1).fit(X, y, eval_set=valid)
    assert len(model.history_) == model.best_epoch_ + 3 < 30
    again = FM(k=4, eta=0.5, epochs=model.best_epoch_, patience=None, seed=1).fit(X, y, eval_set=valid)
    np.testing.assert_array_equal(again.vectors_, model.vectors_)


def test_a_step_far_too_large_says_so() -> None:
    X, y = rows(3)
    with pytest.raises(FloatingPointError, match="training diverged in epoch 1; use a smaller eta"):
        FM(k=4, eta=1e30, epochs=3).fit(X, y)
