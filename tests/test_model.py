"""FFM from the outside: fitting, scoring, explaining, storing."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse

from ffm_udf import FFM, FieldRows
from ffm_udf.layout import Layout
from ffm_udf.rows import NO_WEIGHT, checked_labels
from ffm_udf.training import train_epoch, training_bytes
from ffm_udf.weights import Weights

N_FIELDS, PER_FIELD = 6, 15
N_FEATURES = N_FIELDS * PER_FIELD


def planted(n, seed):
    """Rows whose logit is a sum over the features and over one pair of fields."""
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    main, pair = fixed.normal(0, 0.7, N_FEATURES), fixed.normal(0, 1.5, (PER_FIELD, PER_FIELD))
    local = rng.integers(0, PER_FIELD, (n, N_FIELDS))
    X = (local + np.arange(N_FIELDS) * PER_FIELD).astype(np.int32)
    logit = main[X].sum(axis=1) + pair[local[:, 0], local[:, 1]] - 1
    return X, (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int8)


X, Y = planted(4000, 1)
XV, YV = planted(1000, 2)


@pytest.fixture(scope="module")
def fitted():
    return FFM(k=4, seed=1, keep_before_best=True, epochs=30).fit(X, Y, eval_set=(XV, YV))


def logloss(p, y):
    return -np.mean(np.where(y == 1, np.log(p), np.log(1 - p)))


def test_predict_proba_has_two_columns_that_sum_to_one(fitted):
    p = fitted.predict_proba(XV)
    assert p.shape == (len(XV), 2)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-fitted.decision_function(XV).astype(float))), rtol=1e-12)
    assert ((p > 0) & (p < 1)).all()


def test_history_is_the_curve_and_the_best_epoch_is_kept(fitted):
    curve = [entry["valid_logloss"] for entry in fitted.history_]
    assert [entry["epoch"] for entry in fitted.history_] == list(range(1, len(curve) + 1))
    assert curve[fitted.best_epoch_ - 1] == min(curve)
    assert len(curve) == fitted.best_epoch_ + fitted.patience
    assert logloss(fitted.predict_proba(XV)[:, 1], YV) == pytest.approx(min(curve), rel=1e-9)
    constant = logloss(np.full(len(YV), Y.mean()), YV)
    assert min(curve) < 0.9 * constant
    assert {"epoch", "train_logloss", "valid_logloss", "seconds", "rows_per_s"} == set(fitted.history_[0])


def test_patience_none_trains_every_epoch_to_the_same_bits(fitted):
    again = FFM(k=4, seed=1, epochs=fitted.best_epoch_, patience=None).fit(X, Y)
    np.testing.assert_array_equal(again.decision_function(XV), fitted.decision_function(XV))
    assert len(again.history_) == again.best_epoch_ == fitted.best_epoch_
    assert again.history_[0]["valid_logloss"] is None


def test_another_seed_gives_another_model(fitted):
    other = FFM(k=4, seed=2, epochs=2).fit(X, Y)
    assert (other.decision_function(XV) != fitted.decision_function(XV)).any()


def test_memory_mapped_rows_train_to_the_same_bits(tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    models = [FFM(k=4, epochs=2, patience=None).fit(rows, Y) for rows in (X, mapped)]
    np.testing.assert_array_equal(*(model.decision_function(X) for model in models))


def test_sparse_and_dense_rows_train_the_same_model():
    dense = FFM(k=4, epochs=3, patience=None).fit(X, Y)
    sparse = FFM(k=4, epochs=3, patience=None).fit(FieldRows.from_dense(X), Y)
    np.testing.assert_allclose(
        dense.decision_function(XV), sparse.decision_function(FieldRows.from_dense(XV)), atol=2e-5
    )


def test_rows_of_weight_zero_teach_nothing():
    weight = np.where(np.arange(len(Y)) < 2000, 1.0, 0.0)
    scores = []
    for labels in (Y, np.where(weight > 0, Y, 1 - Y)):
        model = FFM(k=4, epochs=2, patience=None).fit(X, labels, sample_weight=weight)
        scores.append(model.decision_function(XV))
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("normalize", [True, False])
def test_ffm_matches_oracle(normalize):
    """The same weights in modern-fm, an independent implementation (no normalisation: R goes into the values)."""
    modern_fm = pytest.importorskip("modern_fm", reason="no wheel for this platform")
    model = FFM(k=4, seed=1, epochs=2, patience=None, normalize=normalize).fit(X, Y)
    oracle = modern_fm.FFMClassifier(n_factors=4, max_iter=1, dtype="float64")
    field_ids = np.repeat(np.arange(N_FIELDS), PER_FIELD)
    one_hot = scipy.sparse.csr_matrix((np.ones(XV.size), XV.ravel(), np.arange(0, XV.size + 1, N_FIELDS)))
    oracle.fit(one_hot, YV, field_ids=field_ids)
    oracle.w0_ = float(model.weights_.bias[0, 0])
    oracle.w_ = model.weights_.linear[:, 0].astype(float)
    oracle.V_ = model.weights_.vectors.astype(float)
    values = one_hot * (1 / np.sqrt(N_FIELDS) if normalize else 1.0)
    theirs, ours = oracle.decision_function(values), model.decision_function(XV)
    np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max())


def test_explained_terms_sum_to_the_logit(fitted):
    for row in XV[:50]:
        terms = fitted.explain(row)
        total = terms.bias + terms.linear.sum() + terms.pairs.sum()
        scale = abs(terms.bias) + np.abs(terms.linear).sum() + np.abs(terms.pairs).sum()
        assert abs(total - fitted.decision_function(row[None])[0]) <= 1e-6 * scale
        assert terms.logit == pytest.approx(total, rel=1e-12)
        assert not np.tril(terms.pairs).any()


def test_a_pair_term_is_what_the_logit_loses_without_it(fitted):
    """Leaving entry 0 out removes its linear term and its pairs, the others staying as they are (no normalisation)."""
    model = FFM(k=4, epochs=2, patience=None, normalize=False).fit(X, Y)
    whole = FieldRows.from_dense(XV[:1])
    rest = FieldRows(np.array([0, N_FIELDS - 1]), whole.field[1:], whole.feature[1:])
    terms = model.explain(whole)
    lost = model.decision_function(whole)[0] - model.decision_function(rest)[0]
    assert lost == pytest.approx(terms.linear[0] + terms.pairs[0].sum(), abs=1e-6)


def test_ids_without_rows_score_like_the_mean_start_not_at_random():
    model = FFM(k=4, epochs=2, patience=None, start=(0.2, 0.4)).fit(X, Y, n_features=N_FEATURES + 2)
    new = XV[:5].copy()
    scores = []
    for unseen in (N_FEATURES, N_FEATURES + 1):
        new[:, 0] = unseen
        scores.append(model.decision_function(new))
    np.testing.assert_array_equal(*scores)
    np.testing.assert_allclose(model.weights_.vectors[N_FEATURES], 0.3 / 2, rtol=1e-6)  # 0.3 / sqrt(k)


def test_unseen_ids_of_field_rows_are_refused_or_skipped(fitted):
    whole = FieldRows.from_dense(XV[:1])
    feature = whole.feature.copy()
    feature[2] = N_FEATURES
    unseen = FieldRows(whole.indptr, whole.field, feature, whole.value)
    with pytest.raises(ValueError, match=r"X feature id must be in 0\.\.89, got 90 \(row 0, entry 2\)"):
        fitted.decision_function(unseen)
    # skipped in the sums, counted in the norm: the same as value 0 with the norm of six entries
    keep = np.arange(N_FIELDS) != 2
    without = FieldRows(np.array([0, N_FIELDS - 1]), whole.field[keep], whole.feature[keep])
    terms = fitted.explain(without)
    linear = terms.linear.sum() * np.sqrt((N_FIELDS - 1) / N_FIELDS)
    expected = terms.bias + linear + terms.pairs.sum() * (N_FIELDS - 1) / N_FIELDS
    assert fitted.decision_function(unseen, unseen="skip")[0] == pytest.approx(expected, abs=1e-5)


def test_warm_start_goes_on_from_weights_and_sums(fitted):
    before = fitted.before_best()
    again = FFM(k=4, seed=1, epochs=1, patience=None).fit(X, Y, init=before)
    weights = before.weights_.copy()
    order = np.random.default_rng([1, 1]).permutation(np.arange(len(X), dtype=np.int32))
    train_epoch(weights, X, checked_labels(Y, len(Y)), NO_WEIGHT, order, again._settings())
    np.testing.assert_array_equal(again.weights_.blocks, weights.blocks)


def test_before_best_is_the_epoch_before_the_best(fitted):
    short = FFM(k=4, seed=1, epochs=fitted.best_epoch_ - 1, patience=None).fit(X, Y)
    np.testing.assert_array_equal(fitted.before_best().decision_function(XV), short.decision_function(XV))


def test_warm_start_needs_fewer_epochs_and_takes_new_features(fitted, tmp_path):
    fitted.before_best().save(tmp_path / "state", state=True)
    init = FFM.load(tmp_path / "state")
    grown = FFM(k=4, epochs=1, patience=None).fit(X, Y, n_features=N_FEATURES + 5, init=init)
    cold = FFM(k=4, epochs=1, patience=None).fit(X, Y)
    assert logloss(grown.predict_proba(XV)[:, 1], YV) < logloss(cold.predict_proba(XV)[:, 1], YV)
    assert grown.weights_.layout.n_features == N_FEATURES + 5


def renamed(seed):
    """The vocabulary of another day: old id of each new id."""
    return np.random.default_rng(seed).permutation(N_FEATURES)


@pytest.mark.parametrize("state", [False, True])
def test_a_renumbered_model_scores_renumbered_rows_to_the_same_bits(fitted, tmp_path, state):
    fitted.save(tmp_path / "model", state=state)
    old_ids = renamed(5)
    new_ids = np.argsort(old_ids).astype(np.int32)  # of each old id
    moved = FFM.load(tmp_path / "model").renumbered(old_ids)
    np.testing.assert_array_equal(moved.decision_function(new_ids[XV]), fitted.decision_function(XV))


def test_training_goes_on_from_a_renumbered_model_as_from_the_old_one(fitted, tmp_path):
    """Sums move with their features: the same rows in the same order under other ids give the same model, to the bit,
    where the seeds are the same."""
    fitted.before_best().save(tmp_path / "state", state=True)
    init, old_ids = FFM.load(tmp_path / "state"), renamed(5)
    new_ids = np.argsort(old_ids).astype(np.int32)
    settings = {"k": 4, "epochs": 1, "patience": None}
    old = FFM(**settings).fit(X, Y, init=init)
    new = FFM(**settings).fit(new_ids[X], Y, init=init.renumbered(old_ids))
    np.testing.assert_array_equal(new.decision_function(new_ids[XV]), old.decision_function(XV))
    np.testing.assert_array_equal(new.weights_.table[new_ids], old.weights_.table)


def test_new_features_begin_as_their_fallback_with_fresh_sums(fitted):
    """Feature 0 is known, 1 starts as old feature 7, 2 as one never trained: the mean of U(.15, .45) / sqrt(4)."""
    old, new = fitted.weights_, fitted.renumbered([3, -1, -1], [-1, 7, -1]).weights_
    width = old.layout.weights_width
    np.testing.assert_array_equal(new.table[0], old.table[3])
    np.testing.assert_array_equal(new.linear[0], old.linear[3])
    np.testing.assert_array_equal(new.table[1, :width], old.table[7, :width])
    np.testing.assert_array_equal(new.linear[1], [old.linear[7, 0], 1.0])
    np.testing.assert_allclose(new.vectors[2], 0.15, rtol=1e-6)
    np.testing.assert_array_equal(new.linear[2], [0.0, 1.0])
    np.testing.assert_array_equal(new.table[1:, width:], 1.0)
    np.testing.assert_array_equal(new.bias, old.bias)


def test_a_new_value_of_a_field_scores_like_its_unknown_value(fitted):
    unknown = np.arange(N_FIELDS) * PER_FIELD  # say the first id of each field
    ids = np.append(np.arange(N_FEATURES), np.full(N_FIELDS, -1))
    grown = fitted.renumbered(ids, np.append(np.full(N_FEATURES, -1), unknown))
    rows, before = XV[:50].copy(), XV[:50].copy()
    rows[:, 2], before[:, 2] = N_FEATURES + 2, unknown[2]
    np.testing.assert_array_equal(grown.decision_function(rows), fitted.decision_function(before))


@pytest.mark.parametrize(
    ("old_ids", "fallback", "message"),
    [
        ([0, 90], None, r"old_ids must be in -1\.\.89, got 90 \(feature 1\)"),
        ([0, -2], None, r"old_ids must be in -1\.\.89, got -2 \(feature 1\)"),
        ([0.0], None, r"old_ids must be integers of one dimension, got float64 \(1,\)"),
        ([-1, 0], [90, -1], r"fallback must be in -1\.\.89, got 90 \(feature 0\)"),
        ([-1, 0], [1], "fallback must have an id for each of the 2 old_ids, got 1"),
    ],
)
def test_unfit_renumberings_are_refused(fitted, old_ids, fallback, message):
    with pytest.raises(ValueError, match=message):
        fitted.renumbered(old_ids, fallback)


def test_a_pre_mature_warm_start_needs_fewer_epochs_after_a_drift(tmp_path):
    """The next day: ids are sorted anew, and 10 % of the rows have one of five new values in field 3 and the toss of a
    coin as their label. Started from the epoch before yesterday's best, saved and loaded, the model is within 0.1 % of
    the cold start's best loss sooner than the cold start is."""
    n = 20_000
    rows, labels = planted(n, 11)
    yesterday = FFM(k=4, epochs=40, eta=0.1, keep_before_best=True).fit(rows, labels, eval_set=(XV, YV))
    yesterday.before_best().save(tmp_path / "state", state=True)

    old_ids = np.append(renamed(6), np.full(5, -1))
    new_ids = np.argsort(old_ids[:N_FEATURES]).astype(np.int32)
    rng = np.random.default_rng(12)
    days = {}
    for part, (seed, size) in {"train": (13, n), "valid": (14, 5000)}.items():
        fresh, y = planted(size, seed)
        other = rng.random(size) < 0.1
        moved = new_ids[fresh]
        moved[other, 3] = N_FEATURES + rng.integers(0, 5, other.sum())
        days[part] = moved, np.where(other, rng.random(size) < 0.5, y).astype(np.int8)
    unknown = np.full(N_FEATURES + 5, new_ids.argsort()[3 * PER_FIELD])
    init = FFM.load(tmp_path / "state").renumbered(old_ids, unknown)
    cold, warm = (
        FFM(k=4, epochs=40, eta=0.1).fit(*days["train"], eval_set=days["valid"], init=start) for start in (None, init)
    )
    near = 1.001 * min(entry["valid_logloss"] for entry in cold.history_)
    cold_needs, warm_needs = (
        next(entry["epoch"] for entry in model.history_ if entry["valid_logloss"] <= near) for model in (cold, warm)
    )
    assert warm_needs < cold_needs


@pytest.mark.parametrize("k", [1, 4, 16])
@pytest.mark.parametrize("form", [np.asarray, FieldRows.from_dense])
def test_passes_over_the_parts_of_an_order_are_the_pass_over_the_whole(form, k):
    """Mixing synchronises within an epoch: it must not matter to the bits where a pass is cut."""
    order = np.random.default_rng(3).permutation(np.arange(len(X), dtype=np.int32))
    rows, labels = form(X), checked_labels(Y, len(Y))
    settings, found = FFM(k=k)._settings(), []
    for cuts in ([], [2000], [1, 1717, 3999]):
        weights = Weights.start(Layout(k, N_FIELDS, N_FEATURES, "vector"), 0.15, 0.45, 0)
        parts = np.split(order, cuts)
        losses = [train_epoch(weights, rows, labels, NO_WEIGHT, part, settings) for part in parts]
        found.append((weights, np.average(losses, weights=[len(part) for part in parts])))
    (whole, loss), *others = found
    for weights, mean in others:
        np.testing.assert_array_equal(weights.blocks, whole.blocks)
        np.testing.assert_array_equal(weights.linear, whole.linear)
        np.testing.assert_array_equal(weights.bias, whole.bias)
        assert mean == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize(
    ("parameters", "arguments", "message"),
    [
        ({"k": 5}, {}, "init must have k=5 and sums=vector, got k=4 and sums=vector"),
        ({"k": 4, "sums": "weight"}, {}, "init must have k=4 and sums=weight, got k=4 and sums=vector"),
        ({"k": 4}, {"n_fields": 7}, "init has 6 fields, but the rows have 7"),
    ],
)
def test_unfit_warm_starts_are_refused(fitted, parameters, arguments, message):
    rows = FieldRows.from_dense(X)
    with pytest.raises(ValueError, match=message):
        FFM(**parameters).fit(rows, Y, init=fitted, **arguments)


def test_without_keeping_there_is_no_epoch_before_the_best():
    model = FFM(k=4, epochs=1, patience=None).fit(X, Y)
    with pytest.raises(ValueError, match="fit with keep_before_best=True"):
        model.before_best()


@pytest.mark.parametrize("state", [False, True])
def test_save_and_load_give_the_same_scores(fitted, tmp_path, state):
    size = fitted.save(tmp_path / "model", state=state)
    loaded = FFM.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.decision_function(XV), fitted.decision_function(XV))
    assert (loaded.history_, loaded.best_epoch_, loaded) == (fitted.history_, fitted.best_epoch_, fitted)
    assert size == sum(file.stat().st_size for file in (tmp_path / "model").iterdir())
    assert loaded.weights_.layout.sums == ("vector" if state else None)
    with pytest.raises(ValueError, match="read-only"):
        loaded.weights_.blocks[0] = 1


def test_saving_again_replaces_the_folder_and_leaves_nothing_else(fitted, tmp_path):
    for _ in range(2):
        fitted.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_saving_over_something_else_is_refused(fitted, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists and is not a model folder"):
        fitted.save(tmp_path / "notes")
    assert [path.name for path in tmp_path.rglob("*")] == ["notes", "a.txt"]


@pytest.mark.parametrize("k", [1, 3, 8, 17])
@pytest.mark.parametrize("linear", [True, False])
def test_param_count_matches_artifact(tmp_path, k, linear):
    """n_parameters_ = features × other fields × k (+ features) + 1; bytes = the .npy files without their headers."""
    model = FFM(k=k, epochs=1, patience=None, linear=linear).fit(X[:50], Y[:50], n_features=N_FEATURES)
    assert model.n_parameters_ == N_FEATURES * (N_FIELDS - 1) * k + (N_FEATURES if linear else 0) + 1
    model.save(tmp_path / "model")
    arrays = [np.load(file) for file in (tmp_path / "model").glob("*.npy")]
    assert model.nbytes_ == sum(array.nbytes for array in arrays)


def test_half_precision(fitted, tmp_path):
    small = fitted.half(XV, YV)
    assert small.nbytes_ < 0.55 * fitted.nbytes_
    assert small.weights_.blocks.dtype == np.float16
    # 11 bits of mantissa: relative 2^-11 per weight, so at most 2^-10 per product
    terms = fitted.explain(XV[0])
    change = abs(small.decision_function(XV[:1])[0] - fitted.decision_function(XV[:1])[0])
    assert 0 < change <= 2**-10 * np.abs(terms.pairs).sum() * 4
    assert small.half_loss_["logloss_float16"] == pytest.approx(logloss(small.predict_proba(XV)[:, 1], YV))
    assert small.half_loss_["logloss_float32"] == pytest.approx(logloss(fitted.predict_proba(XV)[:, 1], YV))
    small.save(tmp_path / "half")
    loaded = FFM.load(tmp_path / "half")
    np.testing.assert_array_equal(loaded.decision_function(XV), small.decision_function(XV))
    assert json.loads((tmp_path / "half" / "model.json").read_text())["half_loss"] == small.half_loss_
    rows = FieldRows.from_dense(XV)
    np.testing.assert_allclose(small.decision_function(rows), small.decision_function(XV), atol=1e-5)


def test_half_refuses_weights_past_float16(fitted):
    huge = fitted._with(fitted.weights_.copy())
    huge.weights_.vectors[3, 1, 0] = 1e5
    with pytest.raises(ValueError, match=r"a weight of 100000.0 does not fit float16 \(at most 65504.0\)"):
        huge.half()


def test_damaged_model_folders_are_refused(fitted, tmp_path):
    """Any flipped byte, cut or lost file: one ValueError that names the folder; never a crash or a wrong score."""
    generator = random.Random(3)
    for trial in range(60):
        folder = tmp_path / f"model{trial}"
        fitted.save(folder)
        file = generator.choice(sorted(folder.iterdir()))
        data = bytearray(file.read_bytes())
        if trial % 3 == 0:
            at = generator.randrange(len(data))
            data[at] ^= generator.randrange(1, 256)
            file.write_bytes(data)
        elif trial % 3 == 1:
            file.write_bytes(data[: generator.randrange(len(data))])
        elif file.suffix == ".npy":
            file.unlink()
        else:
            file.write_bytes(b"")
        with pytest.raises(ValueError, match=f"model .*{folder.name}"):
            FFM.load(folder)


def test_another_format_version_is_refused(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    header = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps(header | {"format": 99}))
    with pytest.raises(ValueError, match="has format 99, this version of ffm_udf reads format 1"):
        FFM.load(tmp_path / "model")


def test_no_model_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is not a model folder: it has no model\.json"):
        FFM.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("k", 0, r"an integer in 1\.\.128"),
        ("k", 129, r"an integer in 1\.\.128"),
        ("k", 4.0, r"an integer in 1\.\.128"),
        ("eta", 0.0, "positive and finite"),
        ("eta", float("nan"), "positive and finite"),
        ("l2", -1.0, "not negative and finite"),
        ("epochs", 0, "an integer of at least 1"),
        ("patience", 0, "None or >= 1"),
        ("seed", -1, "an integer of at least 0"),
        ("negative_rate", 0.0, r"in \(0, 1\]"),
        ("negative_rate", 1.5, r"in \(0, 1\]"),
        ("negative_rate", float("nan"), r"in \(0, 1\]"),
        ("sums", "feature", '"vector" or "weight"'),
        ("start", (1.0, 0.0), "None or two finite numbers, low <= high"),
    ],
)
def test_bad_parameters(name, value, rule):
    with pytest.raises(ValueError, match=f"{name} must be {rule}, got"):
        FFM(**{name: value})


def test_bad_input_leaves_a_fitted_model_as_it_was():
    model = FFM(k=4, epochs=1, patience=None).fit(X, Y)
    before = model.decision_function(XV)
    with pytest.raises(ValueError, match="label must be 0 or 1"):
        model.fit(X, Y + 1)
    np.testing.assert_array_equal(model.decision_function(XV), before)


def test_unfitted_models_say_so():
    with pytest.raises(ValueError, match="this FFM is not fitted: call fit or load one"):
        FFM().predict_proba(X)


def test_rows_with_other_fields_are_refused(fitted):
    with pytest.raises(ValueError, match=r"X must have 6 fields \(columns\), got 5"):
        fitted.decision_function(np.ascontiguousarray(XV[:, :5]))


def test_validation_rows_with_other_fields_are_refused():
    with pytest.raises(ValueError, match=r"eval_set X must have 6 fields \(columns\), got 5"):
        FFM(k=4).fit(X, Y, eval_set=(np.ascontiguousarray(XV[:, :5]), YV))


def test_dense_rows_with_fewer_fields_than_the_warm_start_are_refused(fitted):
    with pytest.raises(ValueError, match=r"X must have 6 fields \(columns\), got 5"):
        FFM(k=4).fit(np.ascontiguousarray(X[:, :5]), Y, init=fitted)


def test_rows_without_any_entry_are_refused():
    none = np.zeros(0, np.int32)
    with pytest.raises(ValueError, match="rows must have entries, got only empty ones"):
        FFM(k=4).fit(FieldRows(np.zeros(3, np.int64), none, none), [0, 1])


def test_one_class_warns():
    with pytest.warns(UserWarning, match="y has only the class 0: the logloss of this fit means nothing"):
        FFM(k=4, epochs=1).fit(X, np.zeros(len(X)))


def test_divergence_stops_and_names_the_step_size():
    with pytest.raises(FloatingPointError, match=r"training diverged in epoch \d+: .*eta=5e\+04; use a smaller eta"):
        FFM(k=4, eta=5e4, normalize=False).fit(X, Y)


def test_a_model_that_does_not_fit_is_refused_before_it_is_allocated(monkeypatch):
    monkeypatch.setattr("ffm_udf.memory.available_bytes", lambda: 1 << 20)
    message = r"needs [\d,]+ bytes .* but 1,048,576 bytes .* available: use a smaller k, a higher min_count, or hash"
    with pytest.raises(MemoryError, match=message):
        FFM(k=16).fit(X, Y, n_features=1_000_000_000)


def test_training_bytes_are_what_is_allocated():
    """k=4, 6 fields: 8 padded vectors of 4 and 8 sums are 40 floats, in lines 48; linear 2; one flag per feature;
    row order twice and the label."""
    layout = Layout(4, N_FIELDS, 1000, "vector")
    assert training_bytes(layout, 500, 1) == 1000 * (48 + 2) * 4 * 2 + 1000 + 500 * 9


def test_import_is_light():
    code = "import sys, ffm_udf; print(sorted({'pandas', 'pyarrow', 'pyspark', 'sklearn'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
