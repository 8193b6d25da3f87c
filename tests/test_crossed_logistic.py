"""Hashed crosses against plain Python, and against what crosses are for."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from ffm_udf.crossed_logistic import CrossedLogisticRegression, buckets_for
from ffm_udf.logistic import LogisticRegression

N_FIELDS, PER_FIELD, N_FEATURES = 4, 3, 12


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = (rng.integers(0, PER_FIELD, (n, N_FIELDS)) + np.arange(N_FIELDS) * PER_FIELD).astype(np.int32)
    return X, rng.integers(0, 2, n).astype(np.int8)


def bucket(a: int, b: int, buckets: int) -> int:
    """SplitMix64's finaliser of the two ids, in Python's own integers; its upper half scaled to the buckets."""
    key = (a << 32) | b
    key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    key = (key ^ (key >> 27)) * 0x94D049BB133111EB % 2**64
    return ((key ^ (key >> 31)) >> 32) * buckets >> 32


def columns(x: np.ndarray, pairs: list[tuple[int, int]], buckets: int) -> list[int]:
    crossed = [1 + N_FEATURES + bucket(int(x[a]), int(x[b]), buckets) for a, b in pairs]
    return [1 + int(j) for j in x] + crossed


@pytest.mark.parametrize(("pairs", "buckets"), [(None, 7), (None, 1 << 20), ([[0, 2], [3, 1]], 100), ([], 5)])
def test_two_epochs_are_those_of_plain_python(pairs: list[list[int]] | None, buckets: int) -> None:
    X, y = rows(30, 1)
    weight = np.random.default_rng(2).uniform(0.5, 2.0, 30)
    eta, l2 = 0.3, 0.01
    model = CrossedLogisticRegression(buckets, pairs, eta, l2, epochs=2, seed=4).fit(X, y, sample_weight=weight)
    chosen = [tuple(pair) for pair in pairs] if pairs is not None else list(itertools.combinations(range(N_FIELDS), 2))
    w, sums = np.zeros(1 + N_FEATURES + buckets), np.ones(1 + N_FEATURES + buckets)
    value = 1 / math.sqrt(N_FIELDS + len(chosen))
    for epoch in (1, 2):
        for row in np.random.default_rng([4, epoch]).permutation(np.arange(30, dtype=np.int32)):
            used = columns(X[row], chosen, buckets)
            slope = weight[row] * (1 / (1 + math.exp(-w[0] - value * sum(w[c] for c in used))) - y[row])
            for c, gradient in [(c, slope * value) for c in used] + [(0, slope)]:
                gradient += l2 * w[c] if c else 0.0
                sums[c] += gradient**2
                w[c] -= eta * gradient / math.sqrt(sums[c])
    np.testing.assert_allclose(model.weights_, w, rtol=1e-4, atol=1e-6)
    expected = [w[0] + value * sum(w[c] for c in columns(x, chosen, buckets)) for x in X]
    np.testing.assert_allclose(model.decision_function(X), expected, rtol=1e-4, atol=1e-6)


def test_crosses_learn_what_no_single_field_says() -> None:
    # y = 1 where two independent coins agree.
    coins = np.random.default_rng(1).integers(0, 2, (2000, 2))
    X, y = (coins + np.array([0, 2])).astype(np.int32), (coins[:, 0] == coins[:, 1]).astype(np.int8)
    crossed = CrossedLogisticRegression(buckets=1 << 12, epochs=10, eta=0.5).fit(X, y)
    assert crossed.history_[-1]["train_logloss"] < 0.2
    plain = LogisticRegression().fit(X, y).decision_function(X).astype(float)
    assert np.mean(np.logaddexp(0, plain) - y * plain) > 0.99 * math.log(2)


def test_pairs_spread_evenly_over_the_buckets() -> None:
    # All pairs of 300 × 300 ids in 90,000 buckets: as many buckets stay empty as with random throws, 1/e of them
    # (standard deviation of that share: 0.001).
    X = np.array(list(itertools.product(range(300), range(300, 600))), np.int32)
    used = {bucket(int(a), int(b), 90_000) for a, b in X}
    assert 1 - len(used) / 90_000 == pytest.approx(math.exp(-1), abs=0.005)
    model = CrossedLogisticRegression(90_000, epochs=1, l2=0.0).fit(X, np.arange(90_000) % 2)
    assert set(np.flatnonzero(model.weights_[601:])) == used


def test_equal_memory() -> None:
    # An FFM of 1,435,648 bytes has 358,912 float32; 4,431 weights of features and a bias leave 354,480.
    assert buckets_for(1_435_648, 4431) == 354_480
    model = CrossedLogisticRegression(buckets_for(1000, 12), epochs=1).fit(*rows(30, 1), n_features=12)
    assert model.nbytes_ == 1000
    with pytest.raises(ValueError, match="n_bytes must exceed the 52 of the uncrossed weights, got 52"):
        buckets_for(52, 12)


def test_pairs_must_be_columns_of_x() -> None:
    with pytest.raises(ValueError, match="pairs must be of columns of X, got column 4 of 4"):
        CrossedLogisticRegression(pairs=[[0, 4]]).fit(*rows(30, 1))
