"""The highest scores, compared with sorting everything."""

import numpy as np
import pytest

from ffm_udf.ranking import TopPerColumn, descending, top_of_rows


def scores(rows, columns, seed=0):
    """Many ties, both zeros."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(rows, columns)).round(1).astype(np.float32)
    Z.flat[:4] = [0.0, -0.0, 9.0, -9.0]
    return Z


def test_rows_are_sorted_downwards_and_ties_stay_in_place():
    Z = scores(50, 40)
    Z[Z == 0] = 0.0  # -0.0 sorts below 0.0 here and equal to it in NumPy
    np.testing.assert_array_equal(descending(Z), np.argsort(-Z, axis=1, kind="stable"))


def test_nan_comes_first_where_it_cannot_be_missed():
    assert descending(np.array([[1.0, np.nan, 2.0]], np.float32)).tolist() == [[1, 2, 0]]


@pytest.mark.parametrize(("columns", "n"), [(40, 10), (40, 1), (3, 5)])
def test_top_of_rows(columns, n):
    Z = scores(30, columns, 1)[1:]
    score, place = top_of_rows(Z, n)
    order = np.argsort(-Z, axis=1, kind="stable")[:, :n]
    np.testing.assert_array_equal(place[:, :columns], order)
    np.testing.assert_array_equal(score[:, :columns], np.take_along_axis(Z, order, 1))
    assert (place[:, columns:] == -1).all()


@pytest.mark.parametrize("step", [1, 7, 100])
def test_top_of_columns_does_not_depend_on_the_chunks(step):
    Z, note = scores(100, 9, 2)[1:], np.random.default_rng(3).integers(0, 9, (99, 9)).astype(np.int8)
    top = TopPerColumn(9, 12)
    for first in range(0, 99, step):
        top.keep(Z[first : first + step], note[first : first + step], first)
    order = np.argsort(-Z, axis=0, kind="stable")[:12].T
    np.testing.assert_array_equal(top.place, order)
    np.testing.assert_array_equal(top.score, Z[order, np.arange(9)[:, None]])
    np.testing.assert_array_equal(top.noted, note[order, np.arange(9)[:, None]])


def test_columns_with_fewer_rows_than_places():
    top = TopPerColumn(2, 3)
    top.keep(np.array([[1.0, 2.0]], np.float32), np.zeros((1, 2), np.int8), 0)
    assert top.place.tolist() == [[0, -1, -1], [0, -1, -1]]
