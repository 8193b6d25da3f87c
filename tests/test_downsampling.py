"""Negative downsampling: which rows are trained on, and the one place where the logits are corrected for it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import special

from ffm_udf import FFM, FieldRows, storage
from ffm_udf.training import kept_rows

N_FIELDS, PER_FIELD = 4, 10
N_FEATURES = N_FIELDS * PER_FIELD


def planted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels, 11 % of them 1: a sum over the features and over one pair of fields."""
    fixed, rng = np.random.default_rng(7), np.random.default_rng(seed)
    main, pair = fixed.normal(0, 0.5, N_FEATURES), fixed.normal(0, 0.7, (PER_FIELD, PER_FIELD))
    local = rng.integers(0, PER_FIELD, (n, N_FIELDS))
    X = (local + np.arange(N_FIELDS) * PER_FIELD).astype(np.int32)
    p = special.expit(main[X].sum(axis=1) + pair[local[:, 0], local[:, 1]] - 1.6)
    return X, (rng.random(n) < p).astype(np.int8)


X, Y = planted(4000, 1)
XV, YV = planted(1000, 2)


def parts_of(model: FFM) -> list[np.ndarray]:
    return [model.weights_.blocks, model.weights_.linear, model.weights_.bias]


def test_downsampling_roundtrip_gives_the_closed_form():
    """A model that is a bias alone: it learned p' = sigmoid(b) among the rows kept, so p = p' / (p' + (1 - p') / w)."""
    model = FFM(k=2, epochs=1, patience=None, negative_rate=0.2).fit(X, Y)
    model.weights_.blocks[:], model.weights_.linear[:] = 0.0, 0.0
    for bias in (-4.0, 0.0, 3.0):
        model.weights_.bias[0, 0] = bias
        learned = special.expit(bias)
        expected = learned / (learned + (1 - learned) / 0.2)
        np.testing.assert_allclose(model.predict_proba(XV)[:, 1], expected, rtol=1e-6)


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.1])
def test_downsampling_roundtrip_keeps_the_calibration_ratio(rate: float):
    """Mean p over observed, on rows of their own. 44,000 positives in each part: the ratio of their rates has a
    standard error of sqrt(2 / 44,000) = 0.7 %, and small steps add little. Uncorrected it would be 1.8 at rate 0.5."""
    (rows, labels), (fresh, observed) = planted(400_000, 3), planted(400_000, 4)
    model = FFM(k=4, eta=0.01, l2=1e-6, epochs=6, patience=None, negative_rate=rate).fit(rows, labels)
    assert model.predict_proba(fresh)[:, 1].mean() / observed.mean() == pytest.approx(1.0, abs=0.02)


def test_every_positive_is_kept_and_negatives_at_the_rate():
    labels = (np.arange(1_000_000) % 10 == 0).astype(np.int8)
    kept = kept_rows(labels, 0.3, seed=5)
    assert kept.dtype == np.int32
    assert (np.diff(kept) > 0).all()
    assert labels[kept].sum() == 100_000
    assert len(kept) - 100_000 == pytest.approx(270_000, abs=5 * math.sqrt(900_000 * 0.3 * 0.7))


def test_the_same_seed_keeps_the_same_rows_and_another_seed_others():
    np.testing.assert_array_equal(kept_rows(Y, 0.4, seed=5), kept_rows(Y, 0.4, seed=5))
    assert set(kept_rows(Y, 0.4, seed=6)) != set(kept_rows(Y, 0.4, seed=5))


def test_rate_one_keeps_every_row():
    np.testing.assert_array_equal(kept_rows(Y, 1.0, seed=5), np.arange(len(Y)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", [np.asarray, FieldRows.from_dense])
def test_training_is_that_on_the_kept_rows_alone(form, weighted: bool):
    """The weights are those of a fit on the kept rows and their sample weights, to the bit; only the logits differ."""
    weight = np.random.default_rng(8).uniform(0.2, 2.0, len(Y)) if weighted else None
    kept = kept_rows(Y, 0.3, seed=4)
    shared = {"k": 4, "seed": 4, "epochs": 2, "patience": None}
    whole = FFM(**shared, negative_rate=0.3).fit(form(X), Y, sample_weight=weight, n_features=N_FEATURES)
    chosen = None if weight is None else weight[kept]
    alone = FFM(**shared).fit(form(X[kept]), Y[kept], sample_weight=chosen, n_features=N_FEATURES)
    for mine, theirs in zip(parts_of(whole), parts_of(alone), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    lower = whole.decision_function(XV) - alone.decision_function(XV)
    np.testing.assert_allclose(lower, math.log(0.3), atol=2e-6)


def test_features_of_dropped_rows_alone_stay_at_the_mean_start():
    """As features without any row do. The last id is that of one negative row, which seed and rate drop."""
    rows = X.copy()
    dropped = np.setdiff1d(np.arange(len(Y)), kept_rows(Y, 0.3, seed=4))[0]
    rows[dropped, 3] = N_FEATURES
    for form in (np.asarray, FieldRows.from_dense):
        model = FFM(k=4, seed=4, epochs=1, patience=None, start=(0.2, 0.4), negative_rate=0.3).fit(form(rows), Y)
        np.testing.assert_allclose(model.weights_.vectors[N_FEATURES], 0.3 / 2, rtol=1e-6)  # 0.3 / sqrt(k)


def test_all_that_is_computed_from_a_loaded_model_shifts_by_the_one_correction(tmp_path):
    """There is one place: with another rate in the parameters every output moves by the same amount."""
    FFM(k=4, epochs=2, patience=None, negative_rate=0.5).fit(X, Y).save(tmp_path / "model")

    def outputs(rate: float) -> dict[str, np.ndarray]:
        model = FFM.load(tmp_path / "model")
        assert model.negative_rate == 0.5
        model.negative_rate = rate
        terms = [model.explain(row) for row in XV[:20]]
        for term in terms:
            assert term.logit == pytest.approx(term.bias + term.linear.sum() + term.pairs.sum(), rel=1e-12)
        return {
            "dense": model.decision_function(XV),
            "sparse": model.decision_function(FieldRows.from_dense(XV)),
            "half": model.half().decision_function(XV),
            "renumbered": model.renumbered(np.arange(N_FEATURES)).decision_function(XV),
            "proba": special.logit(model.predict_proba(XV)[:, 1]),
            "explained logit": np.array([term.logit for term in terms]),
            "explained constant": np.array([term.bias for term in terms]),
        }

    before, after = outputs(0.5), outputs(0.05)
    for name, values in before.items():
        np.testing.assert_allclose(values - after[name], math.log(0.5 / 0.05), atol=3e-6, err_msg=name)
    np.testing.assert_allclose(before["explained logit"], before["dense"][:20], atol=2e-6)


def test_models_without_a_bias_are_corrected_too():
    shared = {"k": 4, "epochs": 1, "patience": None, "bias": False, "linear": False}
    model = FFM(**shared, negative_rate=0.1).fit(X, Y)
    pairs = model.explain(XV[0]).pairs.sum()
    assert model.decision_function(XV[:1])[0] == pytest.approx(math.log(0.1) + pairs, abs=1e-6)
    assert model.explain(XV[0]).bias == pytest.approx(math.log(0.1), rel=1e-6)


def test_early_stopping_sees_corrected_logits():
    model = FFM(k=2, epochs=3, negative_rate=0.1).fit(X, Y, eval_set=(XV, YV))
    p = model.predict_proba(XV)[:, 1]
    loss = -np.mean(np.where(YV == 1, np.log(p), np.log(1 - p)))
    assert model.history_[model.best_epoch_ - 1]["valid_logloss"] == pytest.approx(loss, rel=1e-9)


def test_the_history_counts_the_rows_trained_on():
    model = FFM(k=2, epochs=1, patience=None, seed=4, negative_rate=0.3).fit(X, Y)
    [entry] = model.history_
    assert entry["rows_per_s"] * entry["seconds"] == pytest.approx(len(kept_rows(Y, 0.3, seed=4)))


def test_a_model_saved_before_there_was_a_rate_has_rate_one(tmp_path):
    FFM(k=2, epochs=1, patience=None).fit(X, Y).save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    header = json.loads(file.read_text())
    del header["parameters"]["negative_rate"]
    file.write_text(json.dumps(header | {"sha256": storage._header_checksum(header)}))
    assert FFM.load(tmp_path / "model").negative_rate == 1.0


def test_a_rate_that_keeps_no_negative_is_refused():
    with pytest.raises(ValueError, match=r"negative_rate=1e-09 keeps none of \d+ negatives \(seed 0\)"):
        FFM(k=2, negative_rate=1e-9).fit(X, Y)


def test_a_warm_start_from_another_rate_is_refused():
    init = FFM(k=2, epochs=1, patience=None, negative_rate=0.5).fit(X, Y)
    with pytest.raises(ValueError, match=r"init must have negative_rate=1\.0, got 0\.5"):
        FFM(k=2).fit(X, Y, init=init)


def test_libffm_has_no_place_for_the_correction(tmp_path):
    model = FFM(k=2, epochs=1, patience=None, linear=False, bias=False, negative_rate=0.5).fit(X, Y)
    with pytest.raises(ValueError, match=r"libffm cannot correct for downsampling, got negative_rate=0\.5, not 1"):
        model.to_libffm(tmp_path / "model.txt")
