"""libffm's text formats: data (`label field:feature:value …`, one row a line) and models, in and out."""

import functools
import math
from pathlib import Path

import numpy as np
from numba import njit
from numba.core import types

from ffm_udf.kernels import array, compile_kernel
from ffm_udf.rows import FieldRows, checked_labels, checked_rows

NEWLINE, COLON = 10, 58
AT_ONCE = 1 << 24  # bytes counted, or rows times entries formatted, at once
GOOD, BAD_LABEL, BAD_ENTRY = 0, 1, 2
LARGEST_ID = np.iinfo(np.int32).max
ROWS_AT_ONCE = 10_000  # rows turned into text at once


def read_libffm(path):
    """Rows and labels of a libffm data file: (FieldRows, int8 [n]).

    A label is 1, +1, 0 or -1 (negative means 0). Fields and features are integers from 0, in any order and number;
    values are finite decimals. Raises ValueError naming the file, the line and the token that breaks a rule.
    """
    path = Path(path)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: no rows")
    data = np.memmap(path, np.uint8, mode="r").view(np.ndarray)
    lines = _count(data, NEWLINE) + int(data[-1] != NEWLINE)
    entries = _count(data, COLON) // 2 + 1
    indptr, labels = np.zeros(lines + 1, np.int64), np.empty(lines, np.int8)
    field, feature, value = np.empty(entries, np.int32), np.empty(entries, np.int32), np.empty(entries, np.float32)
    status, line, start = _parser()(data, indptr, labels, field, feature, value)
    if status != GOOD:
        raise ValueError(f"{path}, line {line + 1}: {_complaint(status, bytes(data[start : start + 80]))}")
    used = indptr[-1]
    return FieldRows(indptr, field[:used], feature[:used], value[:used]), labels


def _count(data, byte):
    return sum(int(np.count_nonzero(data[i : i + AT_ONCE] == byte)) for i in range(0, len(data), AT_ONCE))


def _complaint(status, text):
    token = text.split()[0].decode(errors="replace") if text.strip() and text[:1] not in b"\r\n" else ""
    if status == BAD_LABEL:
        return f"label must be 0, 1, +1 or -1, got {token!r}" if token else "the line is empty, it needs a label"
    parts = token.split(":")
    rule = "an entry must be field:feature:value with integers from 0 and a finite number"
    if len(parts) == 3:
        for name, part in zip(("field", "feature"), parts[:2], strict=True):
            if part.isdigit() and int(part) > LARGEST_ID:
                rule = f"{name} must be at most {LARGEST_ID}"
    return f"{rule}, got {token!r}"


@njit(error_model="numpy")
def _integer(data, at):
    """(id, position after it); id is -1 if there are no digits or too many."""
    number = np.int64(0)
    first = at
    while at < len(data) and 48 <= data[at] <= 57:
        number = min(number * 10 + np.int64(data[at]) - 48, np.int64(LARGEST_ID) + 1)
        at += 1
    return (number if at > first and number <= LARGEST_ID else np.int64(-1)), at


@njit(error_model="numpy")
def _decimal(data, at):
    """(number, position after it); the number is NaN if the text is not a decimal."""
    negative = at < len(data) and data[at] == 45
    if at < len(data) and (data[at] == 45 or data[at] == 43):
        at += 1
    mantissa, exponent, digits, point = 0.0, 0, 0, False
    while at < len(data) and (48 <= data[at] <= 57 or (data[at] == 46 and not point)):
        if data[at] == 46:
            point = True
        else:
            mantissa = mantissa * 10.0 + (data[at] - 48)
            digits += 1
            exponent -= int(point)
        at += 1
    if at < len(data) and (data[at] == 101 or data[at] == 69):
        at += 1
        below = at < len(data) and data[at] == 45
        if at < len(data) and (data[at] == 45 or data[at] == 43):
            at += 1
        power, at = _integer(data, at)
        if power < 0:
            return math.nan, at
        exponent += -power if below else power
    if digits == 0:
        return math.nan, at
    number = mantissa * 10.0**exponent if exponent >= 0 else mantissa / 10.0 ** (-exponent)
    return (-number if negative else number), at


@functools.cache
def _parser():
    def parse_libffm(data, indptr, labels, field, feature, value):
        """Fills the arrays; returns (status, line, position of the token that breaks a rule)."""
        at, used = np.int64(0), np.int64(0)
        for line in range(len(labels)):
            start = at
            sign = at < len(data) and (data[at] == 43 or data[at] == 45)
            digit_at = at + int(sign)
            digit = np.int64(data[digit_at]) - 48 if digit_at < len(data) else np.int64(-1)
            at = digit_at + 1
            ends = at >= len(data) or data[at] == 32 or data[at] == 9 or data[at] == 10 or data[at] == 13
            if not ends or not (digit == 1 or (digit == 0 and not sign)):
                return BAD_LABEL, line, start
            labels[line] = 1 if digit == 1 and data[start] != 45 else 0
            while True:
                while at < len(data) and (data[at] == 32 or data[at] == 9 or data[at] == 13):
                    at += 1
                if at >= len(data) or data[at] == 10:
                    at += 1
                    break
                start = at
                f, at = _integer(data, at)
                if f < 0 or at >= len(data) or data[at] != 58:
                    return BAD_ENTRY, line, start
                j, at = _integer(data, at + 1)
                if j < 0 or at >= len(data) or data[at] != 58:
                    return BAD_ENTRY, line, start
                x, at = _decimal(data, at + 1)
                if at < len(data) and not (data[at] == 32 or data[at] == 9 or data[at] == 10 or data[at] == 13):
                    return BAD_ENTRY, line, start
                if not math.isfinite(np.float32(x)):
                    return BAD_ENTRY, line, start
                field[used], feature[used], value[used] = f, j, x
                used += 1
            indptr[line + 1] = used
        return GOOD, 0, 0

    signature = types.UniTuple(types.int64, 3)(
        array(types.uint8, 1), array(types.int64, 1, False), array(types.int8, 1, False),
        array(types.int32, 1, False), array(types.int32, 1, False), array(types.float32, 1, False))  # fmt: skip
    return compile_kernel(parse_libffm, "text", signature)


def write_libffm(path, X, y):
    """Writes rows (dense or FieldRows) and labels as a libffm data file; values with as many digits as they need."""
    rows = checked_rows(X, "X")
    labels = checked_labels(y, len(rows)).tolist()
    with open(path, "w", encoding="ascii") as file:
        for first in range(0, len(rows), ROWS_AT_ONCE):
            last = min(first + ROWS_AT_ONCE, len(rows))
            part = _slice(rows, first, last) if isinstance(rows, FieldRows) else FieldRows.from_dense(rows[first:last])
            entries = [
                f"{f}:{j}:{_shortest(x)}"
                for f, j, x in zip(part.field.tolist(), part.feature.tolist(), part.value, strict=True)
            ]
            bounds = part.indptr.tolist()
            for i, label in enumerate(labels[first:last]):
                file.write(" ".join([str(label), *entries[bounds[i] : bounds[i + 1]]]) + "\n")


def _slice(rows, first, last):
    start, stop = rows.indptr[first], rows.indptr[last]
    columns = (column[start:stop] for column in (rows.field, rows.feature, rows.value))
    return FieldRows(rows.indptr[first : last + 1] - start, *columns)


def _shortest(x):
    """Shortest text that reads back as the same float32."""
    return "1" if x == 1.0 else str(x)


def write_model(vectors, normalize, path):
    """Writes latent vectors [n_features, n_fields, k] as libffm's text model; digits are enough to read back the same
    float32."""
    n_features, n_fields, k = vectors.shape
    with open(path, "w", encoding="ascii") as file:
        file.write(f"n {n_features}\nm {n_fields}\nk {k}\nnormalization {int(normalize)}\n")
        for j in range(n_features):
            block = np.ascontiguousarray(vectors[j], np.float32)
            for f in range(n_fields):
                file.write(f"w{j},{f} {' '.join(map(str, block[f]))} \n")


def read_model(path):
    """Latent vectors float32 [n_features, n_fields, k] and normalisation of libffm's text model.

    Raises ValueError naming the line if the file is not one, or is cut short.
    """
    with open(path, encoding="ascii", errors="replace") as file:
        sizes = [_header(file.readline(), name, number, path) for number, name in enumerate(("n", "m", "k"), 1)]
        normalize = _header(file.readline(), "normalization", 4, path)
        n_features, n_fields, k = sizes
        if min(sizes) < 1 or normalize not in (0, 1):
            raise ValueError(f"{path}: n, m and k must be positive and normalization 0 or 1, got {sizes}, {normalize}")
        if n_features * n_fields * k > Path(path).stat().st_size:  # a number takes two bytes at least
            raise ValueError(f"{path} is too short for n={n_features}, m={n_fields}, k={k}")
        vectors = np.empty((n_features * n_fields, k), np.float32)
        for i in range(n_features * n_fields):
            line, name = file.readline(), f"w{i // n_fields},{i % n_fields}"
            tokens = line.split()
            try:
                vectors[i] = _vector(tokens, name, k)
            except ValueError as error:
                raise ValueError(f"{path}, line {i + 5}: {error}, got {line.strip()[:60]!r}") from None
        if file.read().strip():
            raise ValueError(f"{path}, line {n_features * n_fields + 5}: text after the last vector")
    return vectors.reshape(n_features, n_fields, k), bool(normalize)


def _vector(tokens, name, k):
    if len(tokens) != k + 1 or tokens[0] != name:
        raise ValueError(f"expected {name} and {k} numbers")
    numbers = [float(token) for token in tokens[1:]]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"expected {name} and {k} finite numbers")
    return numbers


def _header(line, name, number, path):
    tokens = line.split()
    if len(tokens) != 2 or tokens[0] != name or not tokens[1].isdigit():
        raise ValueError(f"{path}, line {number}: expected '{name} <integer>', got {line.strip()[:60]!r}")
    return int(tokens[1])
