"""libffm's text formats, and its results."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffm_udf import FFM, FieldRows, read_libffm, write_libffm
from ffm_udf.kernels import Settings
from ffm_udf.layout import Layout
from ffm_udf.rows import NO_WEIGHT, dense_rows
from ffm_udf.training import train_epoch
from ffm_udf.weights import Weights, mean_logloss

GOOD = "1 0:0:1 1:3:0.5\n-1 0:1:-2e-1\n0\n+1 2:7:1.25 2:8:.5"


def written(tmp_path, text):
    path = tmp_path / "rows.ffm"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_read_rows(tmp_path):
    rows, y = read_libffm(written(tmp_path, GOOD))
    assert y.tolist() == [1, 0, 0, 1]
    assert rows.indptr.tolist() == [0, 2, 3, 3, 5]
    assert rows.field.tolist() == [0, 1, 0, 2, 2]
    assert rows.feature.tolist() == [0, 3, 1, 7, 8]
    np.testing.assert_array_equal(rows.value, np.float32([1, 0.5, -0.2, 1.25, 0.5]))


def test_tabs_trailing_blanks_and_windows_line_ends(tmp_path):
    rows, y = read_libffm(written(tmp_path, "1\t0:0:1  1:3:1 \r\n0 0:1:1\r\n"))
    assert (y.tolist(), rows.feature.tolist()) == ([1, 0], [0, 3, 1])


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("2 0:0:1", "label must be 0, 1, [+]1 or -1, got '2'"),
        ("-0 0:0:1", "label must be 0, 1, [+]1 or -1, got '-0'"),
        ("0.5 0:0:1", "label must be 0, 1, [+]1 or -1, got '0.5'"),
        ("0:0:1", "label must be 0, 1, [+]1 or -1, got '0:0:1'"),
        ("", "the line is empty, it needs a label"),
        ("1 0:0", "an entry must be field:feature:value with integers from 0 and a finite number, got '0:0'"),
        ("1 -1:0:1", "an entry must be field:feature:value .*, got '-1:0:1'"),
        ("1 0:x:1", "an entry must be field:feature:value .*, got '0:x:1'"),
        ("1 0:1:nan", "an entry must be field:feature:value .*, got '0:1:nan'"),
        ("1 0:1:1e60", "an entry must be field:feature:value .*, got '0:1:1e60'"),
        ("1 0:1:", "an entry must be field:feature:value .*, got '0:1:'"),
        ("1 0:1:1:1", "an entry must be field:feature:value .*, got '0:1:1:1'"),
        ("1 0:3000000000:1", "feature must be at most 2147483647, got '0:3000000000:1'"),
    ],
)
def test_errors_name_file_line_and_token(tmp_path, line, complaint):
    with pytest.raises(ValueError, match=rf"rows\.ffm, line 2: {complaint}"):
        read_libffm(written(tmp_path, f"1 0:0:1\n{line}\n0 0:0:1\n"))


def test_empty_file(tmp_path):
    with pytest.raises(ValueError, match=r"rows\.ffm is empty: no rows"):
        read_libffm(written(tmp_path, ""))


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=60) | st.text("01:+-.e \n\r\tx9", min_size=1, max_size=60).map(str.encode))
def test_any_bytes_are_rows_or_a_value_error(tmp_path_factory, data):
    path = written(tmp_path_factory.getbasetemp(), data)
    try:
        rows, y = read_libffm(path)
    except ValueError as error:
        assert "line" in str(error)  # noqa: PT017 - both outcomes are right, and each has a rule
    else:
        assert len(rows) == len(y) == data.count(b"\n") + (not data.endswith(b"\n"))
        assert np.isfinite(rows.value).all()


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2**31 - 1), floats), max_size=12), st.data())
def test_rows_survive_a_round_trip(tmp_path_factory, entries, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(entries)), max_size=3)))
    columns = zip(*entries, strict=True) if entries else ((), (), ())
    field, feature, value = (np.array(c, t) for c, t in zip(columns, (np.int32, np.int32, np.float32), strict=True))
    rows = FieldRows(np.array([0, *cuts, len(entries)], np.int64), field, feature, value)
    y = np.arange(len(rows)) % 2
    path = tmp_path_factory.getbasetemp() / "round.ffm"
    write_libffm(path, rows, y)
    again, labels = read_libffm(path)
    for name in ("indptr", "field", "feature", "value"):
        np.testing.assert_array_equal(getattr(again, name), getattr(rows, name))
    np.testing.assert_array_equal(labels, y)


def test_dense_rows_are_written_with_value_one(tmp_path):
    write_libffm(tmp_path / "dense.ffm", np.array([[0, 2], [1, 3]], np.int32), [1, 0])
    assert (tmp_path / "dense.ffm").read_text() == "1 0:0:1 1:2:1\n0 0:1:1 1:3:1\n"


@pytest.fixture
def twin():
    rng = np.random.default_rng(0)
    X = (rng.integers(0, 4, (300, 3)) + np.arange(3) * 4).astype(np.int32)
    model = FFM(k=3, linear=False, bias=False, epochs=2, patience=None).fit(X, rng.integers(0, 2, 300))
    return model, X


def test_model_survives_a_round_trip(twin, tmp_path):
    model, X = twin
    model.to_libffm(tmp_path / "model.txt")
    again = FFM.from_libffm(tmp_path / "model.txt", eta=0.1)
    np.testing.assert_array_equal(again.weights_.vectors, model.weights_.vectors)
    np.testing.assert_array_equal(again.decision_function(X), model.decision_function(X))
    assert (again.k, again.linear, again.bias, again.eta) == (3, False, False, 0.1)
    head = (tmp_path / "model.txt").read_text().splitlines()[:5]
    assert head[:4] == ["n 12", "m 3", "k 3", "normalization 1"]
    assert head[4].startswith("w0,0 ")


def test_a_model_of_libffm_is_read(tmp_path):
    """Written by hand: 2 features, 2 fields, k = 1; logit of the row = R v00,1 · v11,0 = 3 · 5 / 2."""
    (tmp_path / "m").write_text("n 2\nm 2\nk 1\nnormalization 1\nw0,0 2 \nw0,1 3 \nw1,0 5 \nw1,1 7 \n")
    model = FFM.from_libffm(tmp_path / "m")
    assert model.decision_function(np.array([[0, 1]], np.int32))[0] == pytest.approx(7.5)


def test_models_with_linear_terms_cannot_be_written(tmp_path):
    model = FFM(k=3, epochs=1).fit(np.array([[0, 1], [0, 2]], np.int32), [0, 1])
    with pytest.raises(ValueError, match="libffm has no linear and no bias terms, got linear=True and bias=True"):
        model.to_libffm(tmp_path / "m")


def test_parameters_that_contradict_the_file_are_refused(twin, tmp_path):
    twin[0].to_libffm(tmp_path / "m")
    with pytest.raises(ValueError, match=r"k is 3 in .*, got 4"):
        FFM.from_libffm(tmp_path / "m", k=4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("m 3", "fields 3", "line 2: expected 'm <integer>', got 'fields 3'"),
        ("n 12", "n 99999999", "is too short for n=99999999, m=3, k=3"),
        ("k 3", "k 0", "n, m and k must be positive"),
        ("w0,1 ", "w0,2 ", "line 6: expected w0,1 and 3 numbers, got 'w0,2"),
        ("w0,1 ", "w0,1 nan ", "line 6: expected w0,1 and 3 numbers"),
        ("w11,2", "", "line 40: expected w11,2 and 3 numbers"),
    ],
)
def test_damaged_libffm_models(twin, tmp_path, old, new, message):
    twin[0].to_libffm(tmp_path / "m")
    text = (tmp_path / "m").read_text()
    (tmp_path / "m").write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        FFM.from_libffm(tmp_path / "m")


LIBFFM_LOSSES = {  # validation logloss per epoch of ffm-train -r 0.2 -l 0.00002 -s 1 on bench/planted.py's data
    ("narrow", 4): (0.1929518, 0.1899681, 0.1886538, 0.1879126, 0.1876836),
    ("narrow", 8): (0.1922710, 0.1887763, 0.1870032, 0.1861579, 0.1861377),
    ("wide", 4): (0.1924472, 0.1881039, 0.1858069, 0.1845561),
}


def minstd(count):
    """The first `count` numbers U(0, 1) of C++'s default_random_engine (minstd_rand0: x <- 16807 x mod 2^31 - 1)."""
    modulus, step = 2**31 - 1, 1 << 16
    states, jump = np.empty(step, np.uint64), np.uint64(pow(16807, step, modulus))
    state = 1
    for i in range(step):
        states[i] = state = state * 16807 % modulus
    out = np.empty(count, np.float32)
    for first in range(0, count, step):
        part = out[first : first + step]
        part[:] = ((states - 1) / (modulus - 1))[: len(part)]
        states = states * jump % np.uint64(modulus)
    return out


def test_minstd_is_the_engine_of_the_standard():
    """C++11 [rand.predef]: the 10,000th number of minstd_rand0 is 1043618065."""
    assert minstd(10_000)[-1] == np.float32((1043618065 - 1) / (2**31 - 2))


def glibc_rand():
    """rand() of glibc without a seed: r[i] = r[i - 3] + r[i - 31] mod 2^32, the first 310 numbers dropped, halved."""
    last = [1]
    for _ in range(30):
        last.append(last[-1] * 16807 % (2**31 - 1))
    last += last[:3]
    ring = last[3:]
    for i in range(10**9):
        number = ring[i % 31] = (ring[i % 31] + ring[(i + 28) % 31]) & 0xFFFFFFFF
        if i >= 310:
            yield number >> 1


def shuffled(n, rand):
    """0..n - 1 after libstdc++'s random_shuffle."""
    order = list(range(n))
    for i in range(1, n):
        j = next(rand) % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def libffm_order(n_rows, n_fields, rand):
    """Rows of an epoch: libffm closes a block once it has more than 10M entries, shuffles blocks, then rows in each."""
    size = 10_000_000 // n_fields + 1
    starts = list(range(0, n_rows, size))
    lengths = [min(size, n_rows - start) for start in starts] + [0]  # an empty block marks the end
    order = []
    for block in shuffled(len(lengths), rand):
        order += [starts[block] + i for i in shuffled(lengths[block], rand)] if lengths[block] else []
    return np.array(order, np.int32)


def test_glibc_rand():
    """The numbers that every unseeded C program on Linux starts with."""
    rand = glibc_rand()
    assert [next(rand) for _ in range(3)] == [1804289383, 846930886, 1681692777]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "k"), LIBFFM_LOSSES)
def test_libffm_losses_are_reproduced(name, k):
    """libffm's model, first weights and row order: its loss after every epoch to 1e-5 (it uses 12-bit square roots)."""
    from bench.planted import planted

    data, rand = planted(name), glibc_rand()
    n_fields = data.X_train.shape[1]
    n_features = int(data.X_train.max()) + 1
    weights = Weights.start(Layout(k, n_fields, data.n_features, "weight"), 0.0, 0.0, 0)
    start = minstd(n_features * n_fields * k).reshape(n_features, n_fields, k) / np.float32(np.sqrt(k))
    weights.vectors[:n_features] = start  # a feature past these has no weights: it adds nothing, as in libffm
    rows, test = dense_rows(data.X_train, "X"), dense_rows(data.X_test, "X")
    y, settings_ = np.array(data.y_train), Settings(np.float32(0.2), np.float32(2e-5), k, True, False, False)
    losses = []
    for _ in LIBFFM_LOSSES[name, k]:
        train_epoch(weights, rows, y, NO_WEIGHT, libffm_order(len(rows), n_fields, rand), settings_)
        libffm_order(len(test), n_fields, rand)  # libffm draws an order for the validation rows, too
        losses.append(mean_logloss(weights.logits(test, settings_), data.y_test))
    np.testing.assert_allclose(losses, LIBFFM_LOSSES[name, k], rtol=0, atol=1e-5)
