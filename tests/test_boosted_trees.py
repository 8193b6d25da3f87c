"""What LightGBM is given of encoded rows, and what is kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffm_udf.boosted_trees import BoostedTrees, ordinals
from ffm_udf.metrics import row_logloss, sigmoid
from ffm_udf.training_rows import TrainingRows
from ffm_udf.tree_columns import TreeColumns

FREE = {"min_data_in_leaf": 20, "learning_rate": 0.1, "feature_fraction": 1.0, "cat_smooth": 10.0, "cat_l2": 1.0}
# Field "city": ids 0 (OOV), 1, 2; field "rate": 3 (OOV) and the codes 0, 1205, 311; field "size": 8 (OOV), 2^4, 2^10.
VOCABULARY: list[tuple[str, str | None, int]] = [
    ("city", None, 0),
    ("city", "10", 1),
    ("city", "9", 2),
    ("rate", None, 3),
    ("rate", "0", 4),
    ("rate", "1205", 5),
    ("rate", "311", 6),
    ("size", None, 7),
    ("size", "10", 8),
    ("size", "4", 9),
]
NAN = np.nan
# 1205 is bucket 12 of the rate and bucket 5 of the evidence.
NUMBERS = [[NAN, NAN]] * 4 + [[0, 0], [12, 5], [3, 11]] + [[NAN, NAN], [10, NAN], [4, NAN]]


def test_history_and_log2_values_become_numbers() -> None:
    found = ordinals(VOCABULARY, history=["rate"], log2=["size"])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, NUMBERS)
    assert np.isnan(ordinals(VOCABULARY)).all()


def test_a_value_that_is_no_number_is_named() -> None:
    with pytest.raises(ValueError, match="values of field city must be integers to be ordinal, got 'Rome'"):
        ordinals([("city", None, 0), ("city", "Rome", 1)], log2=["city"])


def test_columns_are_numbers_where_there_are_some_and_ids_elsewhere() -> None:
    X = np.array([[1, 5, 8], [2, 6, 9], [1, 3, 9]], np.int32)
    rows = TrainingRows.checked(X, np.array([0, 1, 0]), n_features=10)
    columns = TreeColumns.of(rows, np.array(NUMBERS, np.float32), categories=10)
    assert columns.categorical == [0]
    # City by place after the first id seen (1), both numbers of the rate (OOV has none), the one of the size.
    np.testing.assert_array_equal(columns.matrix(X), [[0, 12, 5, 10], [1, 3, 11, 4], [0, NAN, NAN, 4]])
    # City's OOV was not seen: below the first id seen, negative, which LightGBM takes for missing.
    assert columns.matrix(np.array([[0, 5, 8]], np.int32))[0, 0] == -1
    assert TreeColumns.of(rows, None, categories=1).categorical == []
    assert TreeColumns.of(rows, None, categories=10).categorical == [0, 1, 2]


def stairs(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One field of 40 ids whose number rises with the id; P(y = 1) is .1 for the lower half, .8 for the upper."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 40, (n, 1)).astype(np.int32)
    return X, (rng.random(n) < np.where(X[:, 0] < 20, 0.1, 0.8)).astype(np.int8)


def test_an_id_never_seen_scores_as_its_neighbours_in_number_do(tmp_path: Path) -> None:
    X, y = stairs(3000, 1)
    seen = (X[:, 0] != 5) & (X[:, 0] != 33)
    numbers = np.stack([np.arange(40), np.full(40, np.nan)], axis=1).astype(np.float32)
    np.save(tmp_path / "numbers.npy", numbers)
    for given in (numbers, str(tmp_path / "numbers.npy")):
        model = BoostedTrees(ordinals=given, parameters=FREE, rounds=80).fit(X[seen], y[seen], n_features=40)
        p = sigmoid(model.decision_function(np.array([[5], [33]], np.int32)))
        np.testing.assert_allclose(p, [0.1, 0.8], atol=0.06)


def test_the_best_of_the_grid_on_the_validation_rows_is_kept() -> None:
    (X, y), valid = stairs(3000, 1), stairs(1500, 2)
    grid: list[dict[str, Any]] = [{"learning_rate": 1e-6}, {}, {"num_leaves": 2, "learning_rate": 1e-6}]
    model = BoostedTrees(parameters=FREE, grid=grid, rounds=60, patience=5).fit(X, y, eval_set=valid, n_features=40)
    assert [trial["parameters"] for trial in model.trials_] == grid
    losses = [trial["valid_logloss"] for trial in model.trials_]
    # Steps of a millionth leave the base rate, which the trees start from.
    constant = row_logloss(valid[1], np.full(1500, y.mean())).mean()
    assert losses[0] == pytest.approx(constant, rel=1e-3)
    assert losses[1] < 0.8 * constant
    assert row_logloss(valid[1], sigmoid(model.decision_function(valid[0]))).mean() == pytest.approx(losses[1])
    assert model.best_epoch_ == model.trials_[1]["trees"] == model.booster_.num_trees()
    assert len(model.history_) == model.best_epoch_ + 5


def test_ordinals_must_fit_the_features() -> None:
    X, y = stairs(100, 1)
    with pytest.raises(ValueError, match=r"ordinals must have the shape \(40, 2\), got \(39, 2\)"):
        BoostedTrees(ordinals=np.zeros((39, 2), np.float32)).fit(X, y, n_features=40)
