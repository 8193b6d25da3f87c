"""One conformance test for every algorithm: what the rest of the project relies on, whichever model it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import lightgbm
import numpy as np
import pytest

from ffm_udf.metrics import row_logloss, sigmoid
from ffm_udf.scorer import ALGORITHMS, cost, make, open_model

N_FIELDS, PER_FIELD = 6, 15
N_FEATURES = N_FIELDS * PER_FIELD + 10  # the last 10 are never trained on
BUCKETS = 2000
SETTINGS: dict[str, dict[str, Any]] = {
    "prior": {"levels": [1, 2], "entity": 0},
    "lr": {"grid": [0.1, 1.0]},
    "lr_cross": {"buckets": BUCKETS, "eta": 0.3, "seed": 3},
    "lightgbm": {
        "rounds": 60,
        "patience": 10,
        "parameters": {"learning_rate": 0.1, "min_data_in_leaf": 20, "cat_smooth": 10.0, "cat_l2": 1.0},
        "seed": 3,
    },
    "fm": {"k": 4, "seed": 3},
    "ffm": {"k": 4, "seed": 3},
}
NAMES = sorted(SETTINGS)


def planted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose logit is a sum over the features and over one pair of fields."""
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    main, pair = fixed.normal(0, 0.7, N_FEATURES), fixed.normal(0, 1.0, (PER_FIELD, PER_FIELD))
    local = rng.integers(0, PER_FIELD, (n, N_FIELDS))
    X = (local + np.arange(N_FIELDS) * PER_FIELD).astype(np.int32)
    logit = main[X].sum(axis=1) + pair[local[:, 3], local[:, 4]] - 1
    return X, (rng.random(n) < sigmoid(logit)).astype(np.int8)


X, Y = planted(4000, 1)
VALID, TEST = planted(1000, 2), planted(2000, 3)
FILES = {
    "prior": {"prior.json", "rates.npy", "lift.npy"},
    "lr": {"lr.json", "weights.npy"},
    "lr_cross": {"lr_cross.json", "weights.npy"},
    "lightgbm": {"lightgbm.json", "trees.txt", "ordinals.npy"},
    "fm": {"fm.json", "vectors.npy", "linear.npy"},
    "ffm": {"model.json", "blocks.npy", "linear.npy", "bias.npy"},
}


def fit(algorithm: str, rows: np.ndarray = X, y: np.ndarray = Y, valid: Any = VALID, **more: Any) -> Any:
    return make(algorithm, SETTINGS[algorithm] | more.pop("settings", {})).fit(
        rows, y, eval_set=valid, n_features=N_FEATURES, **more
    )


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """Every algorithm, fitted to the planted rows. Tests must not change them."""
    return {name: fit(name) for name in NAMES}


def test_every_algorithm_is_tested() -> None:
    assert set(ALGORITHMS) == set(SETTINGS) == set(FILES)


@pytest.mark.parametrize("name", NAMES)
def test_every_algorithm_fills_the_same_columns_of_the_mart(name: str, sweep) -> None:
    """What a sweep says of one algorithm it says of each: size, cost, quality with interval, price per score."""
    wanted = ["n_parameters", "artifact_mib", "train_rows", "train_cpu_s", "train_peak_rss_mib", "train_rows_per_s"]
    wanted += [
        "logloss",
        "logloss_lo",
        "logloss_hi",
        "auc",
        "calibration_ratio",
        "normalized_entropy",
        "usd_per_1m_scores",
    ]
    with duckdb.connect(str(sweep.database), read_only=True) as mart:
        rows = mart.execute(f"select {', '.join(wanted)} from fct_accuracy_cost_by_k where algorithm = ?", [name])
        rows = rows.fetchall()
    assert rows
    assert [value for row in rows for value in row if value is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_beats_the_constant_on_rows_it_has_not_seen(name: str, models: dict[str, Any]) -> None:
    rows, y = TEST
    logits = models[name].decision_function(rows)
    assert logits.dtype == np.float32
    assert logits.shape == (len(rows),)
    constant = row_logloss(y, np.full(len(y), Y.mean())).mean()
    # The prior has the main effects of three of six fields; the others have all of them.
    assert row_logloss(y, sigmoid(logits)).mean() < (0.97 if name == "prior" else 0.88) * constant


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_is_the_same_model(name: str, models: dict[str, Any], tmp_path: Path) -> None:
    model, folder = models[name], tmp_path / "a" / "model"
    size = model.save(folder)
    again = open_model(name, folder)
    np.testing.assert_array_equal(again.decision_function(TEST[0]), model.decision_function(TEST[0]))
    assert {file.name for file in folder.iterdir()} == FILES[name]
    assert size == sum(file.stat().st_size for file in folder.iterdir())
    assert (again.n_parameters_, again.nbytes_) == (model.n_parameters_, model.nbytes_)
    assert (again.history_, again.best_epoch_) == (model.history_, model.best_epoch_)
    price = cost(again, folder)
    assert (price.n_parameters, price.artifact_bytes) == (model.n_parameters_, size)
    assert (price.epochs, price.best_epoch) == (len(model.history_), model.best_epoch_)
    again.save(tmp_path / "copy")
    np.testing.assert_array_equal(
        open_model(name, tmp_path / "copy").decision_function(TEST[0]), model.decision_function(TEST[0])
    )


@pytest.mark.parametrize("name", NAMES)
def test_history_has_an_entry_per_epoch_and_names_the_best(name: str, models: dict[str, Any]) -> None:
    model = models[name]
    if name in ("prior", "lr"):  # not trained in passes
        assert (model.history_, model.best_epoch_) == ([], 0)
        return
    assert [entry["epoch"] for entry in model.history_] == list(range(1, len(model.history_) + 1))
    assert all(set(e) == {"epoch", "train_logloss", "valid_logloss", "seconds", "rows_per_s"} for e in model.history_)
    curve = [entry["valid_logloss"] for entry in model.history_]
    assert curve[model.best_epoch_ - 1] == min(curve)
    # What the curve says is the loss of the model that was kept.
    found = row_logloss(VALID[1], sigmoid(model.decision_function(VALID[0]))).mean()
    assert found == pytest.approx(min(curve), rel=1e-5)


def leaves_and_splits(node: dict[str, Any]) -> int:
    """1 per leaf; 2 per split (column and threshold), or 2 and the 32-bit words of its set of categories: a
    categorical split's threshold is the number of its set."""
    if "leaf_value" in node:
        return 1
    words = 0
    if node["decision_type"] == "==":
        words = 1 + max(int(category) for category in node["threshold"].split("||")) // 32
    return 2 + words + leaves_and_splits(node["left_child"]) + leaves_and_splits(node["right_child"])


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_bytes_are_those_of_the_files(name: str, models: dict[str, Any], tmp_path: Path) -> None:
    model = models[name]
    model.save(tmp_path / "model")
    arrays = sum(np.load(file).nbytes for file in (tmp_path / "model").glob("*.npy"))
    texts = sum(file.stat().st_size for file in (tmp_path / "model").glob("*.txt"))
    assert model.nbytes_ == arrays + texts
    if name == "lightgbm":
        trees = lightgbm.Booster(model_file=tmp_path / "model" / "trees.txt").dump_model()["tree_info"]
        assert model.n_parameters_ == sum(leaves_and_splits(tree["tree_structure"]) for tree in trees)
        assert len(trees) == model.best_epoch_
        return
    expected = {
        "prior": N_FEATURES * (2 + 1) + 1,  # a rate for each of 2 levels, a lift; the base rate
        "lr": N_FEATURES + 1,
        "lr_cross": N_FEATURES + BUCKETS + 1,
        "fm": N_FEATURES * (4 + 1) + 1,
        "ffm": N_FEATURES * (4 * (N_FIELDS - 1) + 1) + 1,
    }
    assert model.n_parameters_ == expected[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits_and_memory_mapped_rows_too(
    name: str, models: dict[str, Any], tmp_path: Path
) -> None:
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    again = fit(name, mapped)
    expected = models[name].decision_function(X)
    np.testing.assert_array_equal(again.decision_function(mapped), expected)
    np.testing.assert_array_equal(mapped, X)


@pytest.mark.parametrize("name", ["lr_cross", "lightgbm", "fm", "ffm"])
def test_another_seed_gives_another_model(name: str, models: dict[str, Any]) -> None:
    other = fit(name, settings={"seed": 4})
    assert (other.decision_function(X) != models[name].decision_function(X)).any()


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_of_two_is_a_row_twice(name: str, models: dict[str, Any]) -> None:
    weight = np.where(Y == 1, 2.0, 1.0).astype(np.float32)
    weighted = fit(name, sample_weight=weight)
    repeated = fit(name, *(np.repeat(part, weight.astype(int), axis=0) for part in (X, Y)))
    one, two, plain = (sigmoid(m.decision_function(TEST[0])) for m in (weighted, repeated, models[name]))
    # Exact for a closed form, to the solver's tolerance for an optimum. AdaGrad takes one double step for two single
    # ones, in another order; LightGBM bins and bounds leaves by rows, not by weight: there on average only.
    if name in ("prior", "lr"):
        np.testing.assert_allclose(one, two, rtol=2e-3)
    else:
        assert one.mean() == pytest.approx(two.mean(), rel=0.05)
        assert np.corrcoef(one, two)[0, 1] > 0.95
    # Positives twice as heavy double the odds: far outside of those 5 %.
    assert one.mean() > 1.2 * plain.mean()


@pytest.mark.parametrize("name", NAMES)
def test_ids_without_training_rows_score_finite_and_not_at_random(name: str, models: dict[str, Any]) -> None:
    rows = TEST[0][:200].copy()
    rows[:, 5] = N_FEATURES - 1 - np.arange(200) % 10
    logits = models[name].decision_function(rows)
    assert np.isfinite(logits).all()
    # Every id that was never trained on is worth the same, hashed pairs apart: those share buckets with others.
    if name != "lr_cross":
        rows[:, 5] = N_FEATURES - 1
        np.testing.assert_allclose(models[name].decision_function(rows), logits, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_fits_without_validation_rows(name: str) -> None:
    settings = {"rounds": 5} if name == "lightgbm" else {} if name in ("prior", "lr") else {"epochs": 3}
    model = fit(name, valid=None, settings=settings)
    assert all(entry["valid_logloss"] is None for entry in model.history_)
    assert model.best_epoch_ == len(model.history_)
    assert np.isfinite(model.decision_function(X)).all()


def changed(place: tuple[int, int], value: int) -> np.ndarray:
    rows = X.copy()
    rows[place] = value
    return rows


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X": X.astype(np.int64)}, "X must be int32 with 2 dimensions, got int64"),
        ({"X": X[:0], "y": Y[:0]}, r"X must not be empty, got shape \(0, 6\)"),
        ({"X": changed((7, 2), -1)}, r"X feature id must be in 0\.\.99, got -1 \(row 7, field 2\)"),
        ({"X": changed((7, 2), 100)}, r"X feature id must be in 0\.\.99, got 100 \(row 7, field 2\)"),
        ({"y": np.where(np.arange(4000) == 17, 2, Y)}, r"label must be 0 or 1, got 2 \(y, row 17\)"),
        ({"y": Y[:10]}, r"y must have shape \(4000,\), one label per row"),
        ({"sample_weight": np.full(4000, np.nan)}, r"sample_weight must be finite and not negative, got nan \(row 0\)"),
        ({"sample_weight": np.ones(3)}, r"sample_weight must be numbers of shape \(4000,\)"),
        ({"eval_set": (X[:5], Y[:6])}, r"eval_set y must have shape \(5,\)"),
        ({"eval_set": (np.ascontiguousarray(X[:5, :4]), Y[:5])}, r"eval_set X must have 6 fields \(columns\), got 4"),
    ],
)
def test_refuses_bad_training_rows(name: str, arguments: dict[str, Any], message: str) -> None:
    model = make(name, SETTINGS[name])
    with pytest.raises(ValueError, match=message):
        model.fit(**{"X": X, "y": Y, "n_features": N_FEATURES} | arguments)
    with pytest.raises(ValueError, match="is not fitted"):
        model.decision_function(X)


@pytest.mark.parametrize("name", NAMES)
def test_refuses_rows_that_do_not_fit_the_model(name: str, models: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"X must have 6 fields \(columns\), got 5"):
        models[name].decision_function(np.ascontiguousarray(X[:, :5]))
    with pytest.raises(ValueError, match=r"X feature id must be in 0\.\.99, got 100 \(row 1, field 0\)"):
        models[name].decision_function(changed((1, 0), 100))
    with pytest.raises(ValueError, match="X must be int32 with 2 dimensions, got float64"):
        models[name].decision_function(X.astype(float))


@pytest.mark.parametrize("name", NAMES)
def test_refuses_a_folder_that_is_not_what_was_written(name: str, models: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    header = next(file for file in FILES[name] if file.endswith(".json"))
    with pytest.raises(FileNotFoundError, match=f"is not a .*model.*: it has no {header}"):
        open_model(name, folder)
    for file in sorted(FILES[name] - {header}):
        models[name].save(folder)
        content = bytearray((folder / file).read_bytes())
        content[-1] ^= 1
        (folder / file).write_bytes(content)
        with pytest.raises(ValueError, match=f"is damaged: {file} does not match its checksum"):
            open_model(name, folder)
        (folder / file).unlink()
        with pytest.raises(ValueError, match=f"is damaged: {file} is missing"):
            open_model(name, folder)
    models[name].save(folder)
    content = json.loads((folder / header).read_text())
    (folder / header).write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(ValueError, match=r"has format 99, this version (of ffm_udf )?reads format 1"):
        open_model(name, folder)
    (folder / header).write_text(json.dumps(content | {"n_fields": 5, "epochs": 5}))
    with pytest.raises(ValueError, match=f"is damaged: {header} does not match its own checksum"):
        open_model(name, folder)
    (folder / header).write_text("{")
    with pytest.raises(ValueError, match=f"is damaged: {header} is not JSON"):
        open_model(name, folder)


def test_one_algorithm_does_not_open_the_folder_of_another(models: dict[str, Any], tmp_path: Path) -> None:
    models["lr"].save(tmp_path / "model")
    for name in sorted(set(NAMES) - {"lr"}):
        with pytest.raises(FileNotFoundError, match="it has no"):
            open_model(name, tmp_path / "model")


@pytest.mark.parametrize(
    ("algorithm", "hyperparameters", "message"),
    [
        ("svm", {}, "algorithm must be one of prior, lr, lr_cross, lightgbm, fm, ffm, got 'svm'"),
        ("fm", {"kk": 3}, "hyperparameters of fm: got an unexpected keyword argument 'kk'"),
        ("prior", {"entity": 0}, "hyperparameters of prior: missing a required argument: 'levels'"),
        ("fm", {"k": 0}, r"k must be in 1\.\.128, got 0"),
        ("fm", {"eta": 0.0}, r"eta must be positive and finite, got 0\.0"),
        ("fm", {"l2": -1.0}, r"l2 must be not negative and finite, got -1\.0"),
        ("fm", {"epochs": 0}, "epochs must be at least 1, got 0"),
        ("fm", {"patience": 0}, "patience must be None or at least 1, got 0"),
        ("lr_cross", {"seed": -1}, "seed must be at least 0, got -1"),
        ("lr_cross", {"buckets": 0}, r"buckets must be in 1\.\.2\^32, got 0"),
        ("lr_cross", {"pairs": [[1, 1]]}, r"pairs must be pairs of two columns of X, got \[\[1, 1\]\]"),
        ("lr_cross", {"eta": float("nan")}, "eta must be positive and finite, got nan"),
        ("lr", {"grid": []}, r"grid must hold positive, finite values of C, got \(\)"),
        ("lr", {"grid": [1.0, 0.0]}, r"grid must hold positive, finite values of C, got \(1\.0, 0\.0\)"),
        ("lr", {"iterations": 0}, "iterations must be at least 1, got 0"),
        ("lr", {"tolerance": 0.0}, r"tolerance must be positive and finite, got 0\.0"),
        ("lightgbm", {"grid": []}, r"grid must be one alternative at least, got \[\]"),
        ("lightgbm", {"rounds": 0}, "rounds must be at least 1, got 0"),
        ("lightgbm", {"parameters": {"objective": "l2"}}, "parameters and grid must not set objective"),
        ("lightgbm", {"grid": [{}, {"seed": 3}]}, "parameters and grid must not set seed"),
    ],
)
def test_bad_hyperparameters(algorithm: str, hyperparameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(algorithm, hyperparameters)


def test_the_door_opens_without_the_libraries_of_single_models() -> None:
    # Not scipy: numba imports it where it finds it.
    code = "import sys, ffm_udf.scorer; print(sorted({'sklearn', 'lightgbm', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
