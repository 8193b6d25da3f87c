"""Input rows and their checks. Every check names the parameter, the rule, the value and the place.

Dense rows are an int32 array [n, n_fields] of feature ids: column f holds the one feature of field f, with value 1.
Everything else (missing fields, several features of one field, real values) is a FieldRows.
"""

from dataclasses import dataclass

import numpy as np

NO_WEIGHT = np.zeros(0, np.float32)  # the kernels read an empty array as "all 1"
CHECKED_AT_ONCE = 1 << 20  # values; a memory-mapped array must not be copied whole to be checked


@dataclass(frozen=True)
class FieldRows:
    """Rows as CSR: row i has the entries indptr[i] .. indptr[i + 1] - 1 of `field`, `feature` and `value`.

    indptr int64 [n + 1], field and feature int32 [entries], value float32 [entries] (None: all 1). Raises ValueError
    for wrong dtypes, shapes, negative ids, values that are not finite, or no rows.
    """

    indptr: np.ndarray
    field: np.ndarray
    feature: np.ndarray
    value: np.ndarray | None = None

    def __post_init__(self):
        value = np.ones(np.shape(self.field), np.float32) if self.value is None else self.value
        for name, array, dtype in (
            ("indptr", self.indptr, np.int64),
            ("field", self.field, np.int32),
            ("feature", self.feature, np.int32),
            ("value", value, np.float32),
        ):
            object.__setattr__(self, name, _array(array, name, dtype, 1))
        _check_pointers(self.indptr, len(self.feature))
        for name in ("field", "value"):
            if len(getattr(self, name)) != len(self.feature):
                raise ValueError(
                    f"{name} must have {len(self.feature)} entries as feature, got {len(getattr(self, name))}"
                )
        _check_range(self.field, "field", None, self._place)
        _check_range(self.feature, "feature", None, self._place)
        _check_all(np.isfinite, self.value, "value must be finite", self._place)

    def __len__(self):
        return len(self.indptr) - 1

    def _place(self, entry):
        return f"row {int(np.searchsorted(self.indptr, entry, side='right')) - 1}, entry {entry}"

    @property
    def n_fields(self):
        return int(self.field.max()) + 1 if len(self.field) else 0

    @property
    def highest_feature(self):
        return int(self.feature.max()) if len(self.feature) else -1

    @classmethod
    def from_dense(cls, X):
        """The same rows as the dense X int32 [n, n_fields], with every value 1."""
        X = dense_rows(X, "X")
        n, n_fields = X.shape
        field = np.tile(np.arange(n_fields, dtype=np.int32), n)
        return cls(np.arange(n + 1, dtype=np.int64) * n_fields, field, X.reshape(-1))


def _array(array, name, dtype, ndim):
    array = np.asarray(array)
    if array.dtype != dtype or array.ndim != ndim:
        wanted = f"{np.dtype(dtype).name} with {ndim} dimension{'s' * (ndim > 1)}"
        raise ValueError(f"{name} must be {wanted}, got {array.dtype.name} of shape {array.shape}")
    return np.require(array, requirements=["C", "A"])


def _check_pointers(indptr, entries):
    if len(indptr) < 2:
        raise ValueError("rows must not be empty, got 0 rows")
    if indptr[0] != 0 or indptr[-1] != entries:
        raise ValueError(f"indptr must run from 0 to {entries} (the entries), got {indptr[0]} to {indptr[-1]}")
    falls = np.diff(indptr) < 0
    if falls.any():
        raise ValueError(f"indptr must not fall, but does so after row {int(np.argmax(falls))}")


def _check_all(rule, array, text, place):
    flat = array.reshape(-1)
    for first in range(0, len(flat), CHECKED_AT_ONCE):
        part = flat[first : first + CHECKED_AT_ONCE]
        good = rule(part)
        if not good.all():
            entry = int(np.argmin(good))
            raise ValueError(f"{text}, got {part[entry]} ({place(first + entry)})")


def _check_range(ids, name, limit, place):
    """0 <= id < limit. As unsigned numbers negative ids are huge: one pass over the data decides."""
    top = np.iinfo(np.int32).max if limit is None else limit - 1
    if ids.size and int(ids.view(np.uint32).max()) > top:
        text = f"{name} id must not be negative" if limit is None else f"{name} id must be in 0..{top}"
        _check_all(lambda part: (part >= 0) & (part <= top), ids, text, place)


def dense_rows(X, name, n_fields=None, n_features=None):
    """X as a checked, C-ordered int32 array [n, n_fields]; memory-mapped arrays are not copied."""
    X = _array(X, name, np.int32, 2)
    if X.shape[0] == 0 or X.shape[1] == 0:
        raise ValueError(f"{name} must not be empty, got shape {X.shape}")
    if n_fields is not None and X.shape[1] != n_fields:
        raise ValueError(f"{name} must have {n_fields} fields (columns), got {X.shape[1]}")
    _check_range(X, f"{name} feature", n_features, lambda i: f"row {i // X.shape[1]}, field {i % X.shape[1]}")
    return X


def field_rows(rows, name, n_fields=None, n_features=None):
    """FieldRows whose ids are checked against the sizes of a model."""
    if n_fields is not None:
        _check_range(rows.field, f"{name} field", n_fields, rows._place)
    if n_features is not None:
        _check_range(rows.feature, f"{name} feature", n_features, rows._place)
    return rows


def checked_rows(rows, name, n_fields=None, n_features=None):
    """FieldRows or dense rows, checked."""
    check = field_rows if isinstance(rows, FieldRows) else dense_rows
    return check(rows, name, n_fields, n_features)


def extent(rows):
    """(number of fields, highest feature id) of checked rows."""
    if isinstance(rows, FieldRows):
        return rows.n_fields, rows.highest_feature
    return rows.shape[1], int(rows.max())


def checked_labels(y, n_rows, name="y"):
    """Labels as int8 [n]. Raises ValueError unless every one is 0 or 1."""
    y = np.asarray(y)
    if y.shape != (n_rows,):
        raise ValueError(f"{name} must have shape ({n_rows},), one label per row, got {y.shape}")
    if y.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numbers or booleans, got dtype {y.dtype}")
    _check_all(lambda part: (part == 0) | (part == 1), y, "label must be 0 or 1", lambda row: f"{name}, row {row}")
    return np.ascontiguousarray(y.astype(np.int8))


def checked_weights(weight, n_rows):
    """Row weights as float32 [n], or an empty array for None. Raises ValueError unless finite and not negative."""
    if weight is None:
        return NO_WEIGHT
    weight = np.asarray(weight)
    if weight.shape != (n_rows,) or weight.dtype.kind not in "biuf":
        raise ValueError(f"sample_weight must be numbers of shape ({n_rows},), got {weight.dtype} {weight.shape}")
    weight = np.ascontiguousarray(weight, np.float32)
    text = "sample_weight must be finite and not negative"
    _check_all(lambda part: np.isfinite(part) & (part >= 0), weight, text, lambda row: f"row {row}")
    if not weight.any():
        raise ValueError("sample_weight must not be 0 for every row")
    return weight
