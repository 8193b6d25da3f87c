"""Kernels against the slow oracle, finite differences and each other."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ffm_udf
from ffm_udf import FieldRows
from ffm_udf.kernels import Settings
from ffm_udf.layout import Layout
from ffm_udf.rows import NO_WEIGHT
from ffm_udf.training import train_epoch
from ffm_udf.weights import Weights
from naive import NaiveFFM

ETA, L2 = np.float32(0.2), np.float32(2e-3)
ALL_K = (1, 2, 3, 4, 5, 8, 16, 17, 50, 128)
N_FIELDS, PER_FIELD = 5, 4


def dense_data(n, seed, n_fields=N_FIELDS):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, PER_FIELD, (n, n_fields)) + np.arange(n_fields) * PER_FIELD
    return X.astype(np.int32), rng.integers(0, 2, n).astype(np.int8)


def sparse_data(n, seed):
    """Rows of 0..6 entries: fields missing or several times, real values, each feature at most once a row."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 7, n)
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    feature = np.concatenate([rng.choice(N_FIELDS * PER_FIELD, size, replace=False) for size in sizes])
    value = rng.choice([1.0, 0.5, -2.0, 0.0, 1.5], len(feature)).astype(np.float32)
    rows = FieldRows(indptr, (feature // PER_FIELD).astype(np.int32), feature.astype(np.int32), value)
    return rows, rng.integers(0, 2, n).astype(np.int8)


def as_lists(rows):
    rows = rows if isinstance(rows, FieldRows) else FieldRows.from_dense(rows)
    entries = list(zip(rows.field.tolist(), rows.feature.tolist(), rows.value.tolist(), strict=True))
    return [entries[a:b] for a, b in zip(rows.indptr[:-1], rows.indptr[1:], strict=True)]


def twins(k, sums, seed, normalize=True, linear=True, bias=True, n_fields=N_FIELDS):
    """The same random weights for the kernels and for the oracle, and the settings."""
    layout = Layout(k, n_fields, n_fields * PER_FIELD, sums)
    weights = Weights.start(layout, -0.5, 1.0, seed)
    weights.linear[:, 0] = np.random.default_rng(seed).normal(0, 0.3, layout.n_features)
    weights.bias[0, 0] = -0.25
    naive = NaiveFFM(
        weights.vectors.astype(float).tolist(), weights.linear[:, 0].tolist(), -0.25, float(ETA), float(L2),
        normalize, linear, bias, sums)  # fmt: skip
    return weights, naive, Settings(ETA, L2, k, normalize, linear, bias)


def assert_same(weights, naive, settings_):
    np.testing.assert_allclose(weights.vectors, naive.v, rtol=2e-5, atol=2e-6)
    if settings_.linear:
        np.testing.assert_allclose(weights.linear[:, 0], naive.w, rtol=2e-5, atol=2e-6)
    if settings_.bias:
        assert weights.bias[0, 0] == pytest.approx(naive.b, rel=2e-5)


def assert_epoch_matches(rows, y, weights, naive, settings_, importance=NO_WEIGHT, seed=0):
    order = np.random.default_rng(seed).permutation(len(y)).astype(np.int32)
    lists = as_lists(rows)
    logits = weights.logits(rows, settings_)
    np.testing.assert_allclose(logits, [naive.logit(row) for row in lists], rtol=1e-5, atol=1e-5)
    weight = importance if len(importance) else np.ones(len(y))
    losses = [naive.step(lists[i], int(y[i]), float(weight[i])) for i in order]
    loss = train_epoch(weights, rows, y, importance, order, settings_)
    assert loss == pytest.approx(np.average(losses, weights=weight[order]), rel=1e-5)
    assert_same(weights, naive, settings_)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("k", ALL_K)
def test_dense_epoch_matches_the_oracle(k, seed):
    weights, naive, settings_ = twins(k, "vector", seed)
    X, y = dense_data(40, seed)
    assert_epoch_matches(X, y, weights, naive, settings_, seed=seed)


@pytest.mark.parametrize("k", [1, 2, 3, 8, 17, *(pytest.param(k, marks=pytest.mark.slow) for k in (4, 5, 16, 50, 128))])
def test_sparse_epoch_matches_the_oracle(k):
    weights, naive, settings_ = twins(k, "vector", k)
    rows, y = sparse_data(40, k)
    assert_epoch_matches(rows, y, weights, naive, settings_, seed=k)


@pytest.mark.parametrize("data", [dense_data, sparse_data])
@pytest.mark.parametrize("k", [1, 3, 8, 17])
def test_sums_per_weight_match_the_oracle(k, data):
    weights, naive, settings_ = twins(k, "weight", k)
    rows, y = data(40, k)
    assert_epoch_matches(rows, y, weights, naive, settings_)


@pytest.mark.parametrize("data", [dense_data, sparse_data])
@pytest.mark.parametrize(
    ("normalize", "linear", "bias"), [(False, True, True), (True, False, False), (True, True, False)]
)
def test_switches_and_row_weights_match_the_oracle(data, normalize, linear, bias):
    weights, naive, settings_ = twins(4, "vector", 7, normalize, linear, bias)
    rows, y = data(40, 7)
    importance = np.random.default_rng(7).choice([0.0, 0.5, 3.0], 40).astype(np.float32)
    assert_epoch_matches(rows, y, weights, naive, settings_, importance)


@pytest.mark.parametrize("n_fields", [1, 2, 16, 17])
def test_one_row_and_odd_numbers_of_fields(n_fields):
    weights, naive, settings_ = twins(4, "vector", 1, n_fields=n_fields)
    X, y = dense_data(1, 1, n_fields)
    assert_epoch_matches(X, y, weights, naive, settings_)


entries = st.lists(
    st.tuples(st.integers(0, N_FIELDS * PER_FIELD - 1), st.floats(-3, 3, width=32)),
    max_size=8,
    unique_by=lambda e: e[0],
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(entries, st.integers(0, 1)), min_size=1, max_size=6), st.sampled_from([3, 16]))
def test_any_rows_match_the_oracle(table, k):
    sizes = [len(row) for row, _ in table]
    flat = [entry for row, _ in table for entry in row]
    feature = np.array([j for j, _ in flat], np.int32)
    value = np.array([x for _, x in flat], np.float32)
    rows = FieldRows(np.cumsum([0, *sizes]).astype(np.int64), feature // np.int32(PER_FIELD), feature, value)
    weights, naive, settings_ = twins(k, "vector", 3)
    assert_epoch_matches(rows, np.array([y for _, y in table], np.int8), weights, naive, settings_)


def test_oracle_gradient_matches_finite_differences():
    _, naive, _ = twins(3, "vector", 5)
    rows, y = sparse_data(20, 5)
    step, checked = 1e-6, 0
    for row, label in zip(as_lists(rows), y.tolist(), strict=True):
        for name, gradient in naive.gradient(row, label).items():
            moved = {sign: shifted_loss(naive, name, sign * step, row, label) for sign in (1, -1)}
            assert gradient == pytest.approx((moved[1] - moved[-1]) / (2 * step), abs=1e-8)
            checked += 1
    assert checked > 300


def shifted_loss(naive, name, change, row, label):
    """Loss with one weight moved by `change`; the weight is put back."""
    kind, *place = name
    if kind == "b":
        holder, key = vars(naive), "b"
    elif kind == "w":
        holder, key = naive.w, place[0]
    else:
        holder, key = naive.v[place[0]][place[1]], place[2]
    before = holder[key]
    holder[key] = before + change
    loss = naive.loss(row, label)
    holder[key] = before
    return loss


@pytest.mark.parametrize("k", [3, 16])
def test_first_step_is_the_gradient(k):
    """With l2 = 0, w - w' = eta g / sqrt(1 + g^2) for each weight (per-weight sums start at 1)."""
    weights, naive, _ = twins(k, "weight", 2)
    settings_ = Settings(ETA, np.float32(0), k, True, True, True)
    X, y = dense_data(1, 2)
    before = weights.vectors.copy()
    gradient = np.zeros(before.shape)
    for name, value in naive.gradient(as_lists(X)[0], int(y[0])).items():
        if name[0] == "v":
            gradient[name[1:]] = value
    train_epoch(weights, X, y, NO_WEIGHT, np.zeros(1, np.int32), settings_)
    np.testing.assert_allclose(before - weights.vectors, ETA * gradient / np.sqrt(1 + gradient**2), atol=2e-7)


@pytest.mark.parametrize("k", [1, 3, 5, 17])
@pytest.mark.parametrize("sums", ["vector", "weight"])
def test_padding_stays_zero(k, sums):
    weights, _, settings_ = twins(k, sums, 0)
    X, y = dense_data(50, 0)
    train_epoch(weights, X, y, NO_WEIGHT, np.arange(50, dtype=np.int32), settings_)
    everything = np.abs(weights.table[:, : weights.layout.weights_width]).sum(dtype=np.float64)
    assert everything == pytest.approx(np.abs(weights.vectors).sum(dtype=np.float64), rel=1e-12)


def test_blocks_start_on_a_cache_line():
    weights, _, _ = twins(5, "vector", 0)
    assert weights.blocks.ctypes.data % 64 == 0
    assert weights.layout.stride * 4 % 64 == 0


@pytest.mark.parametrize("k", [4, 16])
def test_same_input_same_bits(k):
    results = []
    for _ in range(2):
        weights, _, settings_ = twins(k, "vector", 0)
        X, y = dense_data(200, 0)
        train_epoch(weights, X, y, NO_WEIGHT, np.arange(200, dtype=np.int32), settings_)
        results.append(weights.blocks.tobytes())
    assert results[0] == results[1]


@pytest.mark.parametrize("size", [1e3, 1e6])
def test_extreme_logits_give_finite_losses(size):
    """A logit of ±size² has loss size² or 0, never NaN."""
    weights, _, settings_ = twins(4, "vector", 0, normalize=False)
    weights.vectors[:] = size
    X, y = dense_data(10, 0)
    loss = train_epoch(weights, X, y, NO_WEIGHT, np.arange(10, dtype=np.int32), settings_)
    assert np.isfinite(loss)
    assert np.isfinite(weights.blocks).all()


def copied_package(tmp_path):
    """A copy of ffm_udf with a cache folder of its own, and a command that prints one score of it."""
    shutil.copytree(Path(ffm_udf.__file__).parent, tmp_path / "ffm_udf", ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    code = (
        "import sys, numpy as np, ffm_udf\n"
        f"assert ffm_udf.__file__.startswith({str(tmp_path)!r})\n"
        "k = int(sys.argv[1])\n"
        "X = np.arange(12, dtype=np.int32).reshape(4, 3)\n"
        "m = ffm_udf.FFM(k=k, epochs=1, patience=None).fit(X, np.array([0, 1, 0, 1]))\n"
        "print(repr(float(m.decision_function(X)[0])))\n"
    )
    return environment, [sys.executable, "-c", code]


def test_an_edit_of_an_imported_primitive_is_noticed(tmp_path):
    environment, command = copied_package(tmp_path)

    def score():
        run = subprocess.run([*command, "3"], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
        return float(run.stdout)

    first = score()
    cached = set((tmp_path / "cache").rglob("*.nbc"))
    assert score() == first
    assert set((tmp_path / "cache").rglob("*.nbc")) == cached, "the second run compiled again"
    source = tmp_path / "ffm_udf" / "simd.py"
    stamp = source.stat()
    text = source.read_text()
    edited = text.replace(
        "builder.fadd(builder.fmul(a, b, flags=FLAGS), c", "builder.fsub(builder.fmul(a, b, flags=FLAGS), c"
    )
    assert edited != text
    source.write_text(edited)
    os.utime(source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    shutil.rmtree(source.parent / "__pycache__", ignore_errors=True)
    assert score() != first


@pytest.mark.slow
def test_code_shipped_as_a_zip_works(tmp_path):
    environment, command = copied_package(tmp_path)
    shutil.make_archive(str(tmp_path / "shipped"), "zip", tmp_path, "ffm_udf")
    shutil.rmtree(tmp_path / "ffm_udf")
    environment["PYTHONPATH"] = str(tmp_path / "shipped.zip")
    environment["NUMBA_CACHE_DIR"] = ""
    run = subprocess.run([*command, "3"], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert np.isfinite(float(run.stdout))


@pytest.mark.slow
def test_processes_that_compile_at_once_do_not_mix_their_code(tmp_path):
    environment, command = copied_package(tmp_path)
    sizes = [1, 4, 16, 4]
    together = [
        subprocess.Popen([*command, str(k)], env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        for k in sizes
    ]
    scores = [process.communicate()[0] for process in together]
    for k, score in zip(sizes, scores, strict=True):
        again = subprocess.run([*command, str(k)], env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert (k, again.stdout) == (k, score)
