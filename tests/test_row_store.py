"""Rows in period order, mapped into memory, written piece by piece."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from row_task import COUNTS, FIELDS, draw, write_rows

from ffm_udf.row_store import RowStore, put


def test_rows_written_in_any_order_are_read_in_that_of_the_periods(tmp_path: Path) -> None:
    RowStore.create(tmp_path, FIELDS, {9: 250, 5: 1000, 7: 300})
    starts = {5: 0, 7: 1000, 9: 1300}
    for number, n in ((9, 250), (5, 1000), (7, 300)):
        X, y = draw(number, n)
        put(tmp_path, starts[number] + 100, X[100:], y[100:])
        put(tmp_path, starts[number], X[:100], y[:100])
    store = RowStore.open(tmp_path)
    assert (store.X.dtype, store.y.dtype, store.fields) == (np.int32, np.int8, FIELDS)
    assert store.periods == {5: (0, 1000), 7: (1000, 1300), 9: (1300, 1550)}
    for number, n in ((5, 1000), (7, 300), (9, 250)):
        span = store.span(number, number)
        np.testing.assert_array_equal(store.X[span], draw(number, n)[0])
        np.testing.assert_array_equal(store.y[span], draw(number, n)[1])


def test_a_span_holds_its_periods_and_skips_those_that_do_not_exist(tmp_path: Path) -> None:
    store = write_rows(tmp_path)
    assert store.span(6, 8) == slice(1000, 2400)
    assert store.span(0, 99) == slice(0, sum(COUNTS.values()))
    np.testing.assert_array_equal(store.period_numbers(store.span(6, 7)), [6] * 700 + [7] * 300)
    with pytest.raises(ValueError, match=r"periods 10\.\.12 have no rows; there are periods 5\.\.9"):
        store.span(10, 12)


def test_the_rows_are_mapped_not_read(tmp_path: Path) -> None:
    store = write_rows(tmp_path)
    assert isinstance(store.X, np.memmap)
    assert np.shares_memory(store.X[store.span(6, 7)], store.X)
    with pytest.raises(ValueError, match="read-only"):
        store.y[0] = 1


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path)
    X, y = draw(1, 10)
    with pytest.raises(ValueError, match=r"rows 2645\.\.2655 of shape \(10, 3\) do not fit X \(2650, 3\)"):
        put(tmp_path, 2645, X, y)
    with pytest.raises(ValueError, match="do not fit X"):
        put(tmp_path, 0, X[:, :2], y)


def test_missing_and_damaged_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no rows: it has no rows\.json"):
        RowStore.open(tmp_path)
    write_rows(tmp_path)
    header = json.loads((tmp_path / "rows.json").read_text())
    header["periods"][-1][2] += 1
    (tmp_path / "rows.json").write_text(json.dumps(header))
    with pytest.raises(ValueError, match=r"are damaged: 2651 rows are declared, X is \(2650, 3\)"):
        RowStore.open(tmp_path)
