"""Bad rows, labels and weights are refused with one clear line."""

import numpy as np
import pytest

from ffm_udf import FFM, FieldRows

X = np.array([[0, 2], [1, 3], [0, 3]], np.int32)
Y = np.array([0, 1, 0])


def rows(indptr=(0, 2, 3), field=(0, 1, 0), feature=(0, 2, 1), value=(1.0, 0.5, 1.0)):
    dtypes = (np.int64, np.int32, np.int32, np.float32)
    columns = zip((indptr, field, feature, value), dtypes, strict=True)
    return FieldRows(*(np.array(column, dtype) for column, dtype in columns))


def test_values_are_one_by_default():
    made = FieldRows(np.array([0, 2]), np.array([0, 1], np.int32), np.array([4, 5], np.int32))
    np.testing.assert_array_equal(made.value, np.ones(2, np.float32))
    assert (len(made), made.n_fields, made.highest_feature) == (1, 2, 5)


def test_from_dense_keeps_every_id():
    made = FieldRows.from_dense(X)
    assert made.indptr.tolist() == [0, 2, 4, 6]
    assert made.field.tolist() == [0, 1] * 3
    assert made.feature.tolist() == X.ravel().tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indptr": (0,)}, "rows must not be empty, got 0 rows"),
        ({"indptr": (0, 2, 4)}, r"indptr must run from 0 to 3 \(the entries\), got 0 to 4"),
        ({"indptr": (0, 4, 3)}, "indptr must not fall, but does so after row 1"),
        ({"field": (0, 1)}, "field must have 3 entries as feature, got 2"),
        ({"field": (0, -1, 0)}, r"field id must not be negative, got -1 \(row 0, entry 1\)"),
        ({"feature": (0, 2, -7)}, r"feature id must not be negative, got -7 \(row 1, entry 2\)"),
        ({"value": (1.0, np.nan, 1.0)}, r"value must be finite, got nan \(row 0, entry 1\)"),
        ({"value": (1.0, 1.0, np.inf)}, r"value must be finite, got inf \(row 1, entry 2\)"),
    ],
)
def test_bad_field_rows(change, message):
    with pytest.raises(ValueError, match=message):
        rows(**change)


def test_field_rows_of_another_dtype():
    with pytest.raises(ValueError, match="field must be int32 with 1 dimension, got int64 of shape"):
        FieldRows(np.array([0, 1]), np.array([0]), np.array([0], np.int32))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (X.astype(np.int64), r"X must be int32 with 2 dimensions, got int64 of shape \(3, 2\)"),
        (X[0], r"X must be int32 with 2 dimensions, got int32 of shape \(2,\)"),
        (X[:0], r"X must not be empty, got shape \(0, 2\)"),
        (
            np.array([[0, 2], [1, -3], [0, 3]], np.int32),
            r"X feature id must not be negative, got -3 \(row 1, field 1\)",
        ),
    ],
)
def test_bad_dense_rows(bad, message):
    with pytest.raises(ValueError, match=message):
        FFM(k=4).fit(bad, Y[: len(bad)])


def test_feature_id_past_the_model():
    with pytest.raises(ValueError, match=r"X feature id must be in 0\.\.2, got 3 \(row 1, field 1\)"):
        FFM(k=4).fit(X, Y, n_features=3)


def test_field_id_past_the_model():
    with pytest.raises(ValueError, match=r"X field id must be in 0\.\.0, got 1 \(row 0, entry 1\)"):
        FFM(k=4).fit(rows(), Y[:2], n_fields=1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2], r"label must be 0 or 1, got 2 \(y, row 2\)"),
        ([0, 1, -1], r"label must be 0 or 1, got -1 \(y, row 2\)"),
        ([0.0, np.nan, 1.0], r"label must be 0 or 1, got nan \(y, row 1\)"),
        ([0, 1], r"y must have shape \(3,\), one label per row, got \(2,\)"),
        (["0", "1", "0"], "y must be numbers or booleans, got dtype <U1"),
    ],
)
def test_bad_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        FFM(k=4).fit(X, np.array(labels))


def test_bad_validation_label_names_the_set():
    with pytest.raises(ValueError, match=r"label must be 0 or 1, got 5 \(eval_set y, row 0\)"):
        FFM(k=4).fit(X, Y, eval_set=(X, np.array([5, 0, 1])))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, np.inf, 1.0], r"sample_weight must be finite and not negative, got inf \(row 1\)"),
        ([1.0, 1.0, np.nan], r"sample_weight must be finite and not negative, got nan \(row 2\)"),
        ([-1.0, 1.0, 1.0], r"sample_weight must be finite and not negative, got -1.0 \(row 0\)"),
        ([1.0], r"sample_weight must be numbers of shape \(3,\), got float64 \(1,\)"),
        ([0, 0, 0], "sample_weight must not be 0 for every row"),
    ],
)
def test_bad_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        FFM(k=4).fit(X, Y, sample_weight=np.array(weights))
