"""Rolling-origin folds: spans counted by hand, vocabularies against encoding from scratch."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffm_udf.row_store import RowStore, put
from jobs.folds import Fold, FoldError, refolded, rolling

# Periods -1..42 (44 of them) are what the benchmark has before its test: weeks 1-44 with calib through week 44.
BENCHMARK = {"first": -1, "last": 42, "folds": 3, "test": 4, "valid": 2, "calib": 2}


def test_folds_end_with_the_last_period_and_their_test_parts_follow_one_another() -> None:
    assert rolling(**BENCHMARK) == [
        Fold([-1, 26], [27, 28], [29, 30], [31, 34]),
        Fold([-1, 30], [31, 32], [33, 34], [35, 38]),
        Fold([-1, 34], [35, 36], [37, 38], [39, 42]),
    ]


def test_parts_keep_the_periods_apart_that_labels_need_to_become_final() -> None:
    [fold] = rolling(**BENCHMARK | {"folds": 1}, maturity=1)
    assert fold == Fold([-1, 31], [33, 34], [36, 37], [39, 42])


def test_a_window_keeps_the_last_training_periods() -> None:
    [old, new] = rolling(**BENCHMARK | {"folds": 2}, window=10)
    assert (old.train, new.train) == ([21, 30], [25, 34])
    assert new.windowed(3) == [32, 34]
    assert new.windowed(99) == [25, 34]
    assert new.windowed(None) == [25, 34]


def test_the_calibrator_of_a_test_period_learns_from_the_final_periods_just_before_it() -> None:
    fold = Fold([-1, 34], [35, 36], [37, 38], [39, 42])
    assert [fold.calibration(period) for period in (39, 40, 42)] == [[37, 38], [38, 39], [40, 41]]
    # Labels that need one more period: 38 is not final when 39 starts, and calib ends earlier for that reason.
    assert Fold([-1, 31], [33, 34], [36, 37], [39, 42]).calibration(39, maturity=1) == [36, 37]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 0}, "must be at least 1, got 0 folds of 2 valid, 2 calib and 4 test"),
        ({"test": 0}, "got 3 folds of 2 valid, 2 calib and 0 test"),
        # 44 periods - 9 x 4 test - 2 - 2 leave 4, which is as many as a test part; ten folds leave none.
        ({"folds": 10}, r"oldest of 10 folds must have at least as many training as test periods \(4\), got 0"),
    ],
)
def test_folds_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    assert len(rolling(**BENCHMARK | {"folds": 9})) == 9
    with pytest.raises(FoldError, match=message):
        rolling(**BENCHMARK | change)


@given(
    folds=st.integers(1, 4),
    test=st.integers(1, 4),
    valid=st.integers(1, 3),
    calib=st.integers(1, 3),
    maturity=st.integers(0, 3),
    window=st.none() | st.integers(1, 20),
)
def test_parts_are_in_order_and_keep_their_distance(folds, test, valid, calib, maturity, window) -> None:
    found = rolling(0, 59, folds, test, valid, calib, maturity, window)
    for fold in found:
        for before, after in pairwise((fold.train, fold.valid, fold.calib, fold.test)):
            assert before[0] <= before[1] == after[0] - maturity - 1
        assert [part[1] - part[0] + 1 for part in (fold.valid, fold.calib, fold.test)] == [valid, calib, test]
        assert fold.calibration(fold.test[0], maturity) == fold.calib
    assert [fold.test[0] for fold in found[1:]] == [fold.test[1] + 1 for fold in found[:-1]]
    assert found[-1].test[1] == 59


def vocabulary(values: np.ndarray, min_count: int) -> list[dict[int, int]]:
    """By field: id of every value with `min_count` rows, in order; a field's first id is left for the others."""
    found, free = [], 0
    for column in values.T:
        known = sorted(value for value, n in Counter(column.tolist()).items() if n >= min_count)
        found.append({None: free} | {value: free + 1 + place for place, value in enumerate(known)})
        free += 1 + len(known)
    return found


def encoded(values: np.ndarray, known: list[dict]) -> np.ndarray:
    columns = [[ids.get(v, ids[None]) for v in column.tolist()] for ids, column in zip(known, values.T, strict=True)]
    return np.array(columns, np.int32).T


def test_refolded_ids_are_those_of_a_vocabulary_made_from_the_folds_own_rows(tmp_path) -> None:
    """Periods 0..3 train the whole, periods 0..1 the fold; both vocabularies are also made from scratch."""
    rng, counts = np.random.default_rng(3), {0: 60, 1: 70, 2: 80, 3: 90}
    values = np.stack([rng.geometric(0.2, 300), rng.geometric(0.05, 300), rng.integers(0, 2, 300)], axis=1)
    whole = vocabulary(values, 4)
    RowStore.create(tmp_path, ["a", "b", "c"], counts)
    put(tmp_path, 0, encoded(values, whole), np.zeros(300, np.int8))
    store = RowStore.open(tmp_path)
    offsets = np.array([ids[None] for ids in whole])

    n_features = sum(len(ids) for ids in whole)
    table, size = refolded(store, [0, 1], [0, 1, 2], offsets, n_features, 4)
    fold = vocabulary(values[:130], 4)
    assert size == sum(len(ids) for ids in fold) < n_features
    np.testing.assert_array_equal(table[store.X], encoded(values, fold))
    assert table.dtype == np.int32


def test_a_vocabulary_folded_again_on_its_own_rows_stays(tmp_path) -> None:
    values = np.array([[0, 5], [0, 6], [1, 6], [2, 7]])
    known = vocabulary(values, 1)
    RowStore.create(tmp_path, ["a", "b"], {7: 4})
    put(tmp_path, 0, encoded(values, known), np.zeros(4, np.int8))
    store, offsets = RowStore.open(tmp_path), np.array([0, 4])
    # a: OOV 0, values 1-3; b: OOV 4, values 5-7. Nothing has fewer than one row; the empty OOVs stay all the same.
    table, size = refolded(store, [7, 7], [0, 1], offsets, 8, 1)
    assert (table.tolist(), size) == (list(range(8)), 8)
    # With two rows asked for, only value 0 of a (rows 0, 1) and value 6 of b (rows 1, 2) are left beside the OOVs.
    table, size = refolded(store, [7, 7], [0, 1], offsets, 8, 2)
    assert (table.tolist(), size) == ([0, 1, 0, 0, 2, 2, 3, 2], 4)
    # Without column a, b is numbered from 0.
    table, size = refolded(store, [7, 7], [1], offsets, 8, 2)
    assert (table.tolist(), size) == ([-1, -1, -1, -1, 0, 0, 1, 0], 2)
