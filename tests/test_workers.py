"""What runs inside a task: reading examples, training, scoring and measuring, on tiny files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import special

from ffm_udf import FFM, workers
from ffm_udf.calibration import Calibrator
from ffm_udf.calibration import fit as fit_calibrator
from ffm_udf.prior import HierarchicalPrior

FIELDS = ["category", "family", "household"]
OFFSET, SIZE = [0, 3, 9], 19  # of each field's ids, and the number of ids
FFM_PARAMETERS = {"k": 2, "seed": 3, "eta": 0.1, "l2": 2e-5, "epochs": 4, "patience": 2}
PRIOR_PARAMETERS = {"levels": [0, 1], "entity": 2, "strength": 20.0}


def draw(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose conversion rate depends on the household and on its category."""
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(0, size, n) for size in (3, 6, 10)], axis=1)
    p = special.expit(-1 + 0.8 * (ids[:, 2] % 3 - 1) * (ids[:, 0] - 1))
    return (ids + OFFSET).astype(np.int32), (rng.random(n) < p).astype(np.int8)


def write(path: Path, X: np.ndarray, y: np.ndarray) -> str:
    columns = {"y": y, "entity_id": [str(household) for household in X[:, 2]]}  # a column no model reads
    columns |= {f"f_{name}": X[:, place] for place, name in reversed(list(enumerate(FIELDS)))}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, list[str]]:
    sizes = {"train": (1000, 700), "valid": (300,), "calib": (400,), "test": (250,)}
    return {
        part: [
            write(tmp_path / part / f"{place}.parquet", *draw(hash_of(part, place), n)) for place, n in enumerate(ns)
        ]
        for part, ns in sizes.items()
    }


def hash_of(part: str, place: int) -> int:
    return ["train", "valid", "calib", "test"].index(part) * 10 + place


@pytest.fixture
def task(tmp_path: Path, files: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "model_id": "ffm-k2",
        "algorithm": "ffm",
        "role": "candidate",
        "folder": str(tmp_path / "models" / "ffm-k2"),
        "fields": FIELDS,
        "n_features": SIZE,
        "files": {part: files[part] for part in ("train", "valid", "calib")},
        "hyperparameters": FFM_PARAMETERS,
        "lineage": {"hyperparameters": FFM_PARAMETERS},
    }


@pytest.fixture
def prior_task(tmp_path: Path, task: dict[str, Any]) -> dict[str, Any]:
    own = {"model_id": "prior", "algorithm": "prior", "folder": str(tmp_path / "models" / "prior")}
    return task | own | {"hyperparameters": PRIOR_PARAMETERS, "lineage": {"hyperparameters": PRIOR_PARAMETERS}}


def test_examples_come_in_the_order_of_files_rows_and_fields(files: dict[str, list[str]]) -> None:
    X, y = workers.read_examples(files["train"], FIELDS)
    (first, y_first), (second, y_second) = draw(0, 1000), draw(1, 700)
    assert (X.dtype, y.dtype) == (np.int32, np.int8)
    np.testing.assert_array_equal(X, np.concatenate([first, second]))
    np.testing.assert_array_equal(y, np.concatenate([y_first, y_second]))
    some, _ = workers.read_examples(files["train"][::-1], ["household", "category"])
    np.testing.assert_array_equal(some, np.concatenate([second, first])[:, [2, 0]])


def test_files_longer_than_a_batch_are_read_whole(tmp_path: Path) -> None:
    X, y = draw(5, (1 << 18) + 17)
    found = workers.read_examples([write(tmp_path / "long.parquet", X, y)], FIELDS)
    np.testing.assert_array_equal(found[0], X)
    np.testing.assert_array_equal(found[1], y)


def test_no_files_are_no_rows() -> None:
    X, y = workers.read_examples([], FIELDS)
    assert (X.shape, y.shape) == ((0, 3), (0,))


def test_a_missing_field_is_named(files: dict[str, list[str]]) -> None:
    with pytest.raises(KeyError, match="f_colour"):
        workers.read_examples(files["test"], [*FIELDS, "colour"])


def test_an_ffm_task_trains_calibrates_and_says_what_it_cost(task: dict[str, Any]) -> None:
    card = workers.train(task)
    folder = Path(task["folder"])
    assert json.loads((folder / workers.CARD).read_text()) == card
    cost = card["cost"]
    assert cost["train_rows"] == 1700
    assert cost["epochs"] == len(card["curve"]) <= 4
    assert 1 <= cost["best_epoch"] <= cost["epochs"]
    # k for each of the two other fields and one linear weight per feature, and the bias
    assert cost["n_parameters"] == SIZE * (2 * 2 + 1) + 1
    assert cost["bytes_read"] == sum(os.path.getsize(f) for part in ("train", "valid") for f in task["files"][part])
    assert cost["artifact_bytes"] == sum(p.stat().st_size for p in folder.iterdir() if p.name != workers.CARD)
    assert cost["peak_rss_mib"] > 10
    assert set(card["files"]) == {"blocks.npy", "linear.npy", "bias.npy", "model.json"}


def test_the_trained_model_is_that_of_fit_with_the_tasks_parameters(task: dict[str, Any]) -> None:
    card = workers.train(task)
    X, y = workers.read_examples(task["files"]["train"], FIELDS)
    model = FFM(**FFM_PARAMETERS)
    model.fit(X, y, eval_set=workers.read_examples(task["files"]["valid"], FIELDS), n_features=SIZE)
    again = FFM.load(task["folder"])
    probe = draw(99, 50)[0]
    np.testing.assert_array_equal(again.decision_function(probe), model.decision_function(probe))
    Xc, yc = workers.read_examples(task["files"]["calib"], FIELDS)
    expected = fit_calibrator(model.decision_function(Xc), yc)
    assert Calibrator(**card["calibrator"]) == expected


def test_a_prior_task_trains_the_prior(prior_task: dict[str, Any]) -> None:
    card = workers.train(prior_task)
    X, y = workers.read_examples(prior_task["files"]["train"], FIELDS)
    expected = HierarchicalPrior(**PRIOR_PARAMETERS).fit(X, y, SIZE)
    found = workers.ScoringModel(prior_task["folder"])
    np.testing.assert_array_equal(found.score(X)[0], expected.decision_function(X))
    assert (card["curve"], card["cost"]["epochs"], card["cost"]["best_epoch"]) == ([], 0, 0)
    assert card["cost"]["n_parameters"] == 2 * SIZE + SIZE + 1
    assert set(card["files"]) == {"prior.json", "rates.npy", "lift.npy"}


def test_a_finished_folder_is_not_trained_again(task: dict[str, Any]) -> None:
    card = workers.train(task)
    for part in task["files"].values():
        for path in part:
            Path(path).unlink()
    assert workers.train(task) == card


@pytest.mark.parametrize("kind", ["task", "prior_task"])
def test_a_folder_without_a_card_is_trained_again(kind: str, request: pytest.FixtureRequest) -> None:
    task = request.getfixturevalue(kind)
    card = workers.train(task)
    folder = Path(task["folder"])
    # A worker died after its model was saved, while it wrote the card.
    (folder / workers.CARD).rename(folder / f".{workers.CARD}")
    again = workers.train(task)
    assert again["files"].keys() == card["files"].keys()
    assert (again["calibrator"], again["cost"]["n_parameters"]) == (card["calibrator"], card["cost"]["n_parameters"])
    workers.ScoringModel(task["folder"])


def test_a_refit_takes_epochs_and_calibrator_from_its_task(task: dict[str, Any], tmp_path: Path) -> None:
    every = [path for part in task["files"].values() for path in part]
    hyper = FFM_PARAMETERS | {"epochs": 2, "patience": None}
    refit = task | {
        "model_id": "refit",
        "role": "refit",
        "folder": str(tmp_path / "models" / "refit"),
        "files": {"train": every, "valid": [], "calib": []},
        "hyperparameters": hyper,
        "calibrator": {"slope": 0.9, "intercept": -0.1},
    }
    card = workers.train(refit)
    assert card["role"] == "refit"
    assert (card["cost"]["epochs"], card["cost"]["best_epoch"], card["cost"]["train_rows"]) == (2, 2, 2400)
    assert [entry["valid_logloss"] for entry in card["curve"]] == [None, None]
    assert card["calibrator"] == {"slope": 0.9, "intercept": -0.1}
    X, y = workers.read_examples(every, FIELDS)
    expected = FFM(**hyper).fit(X, y, n_features=SIZE)
    logits, p = workers.ScoringModel(refit["folder"]).score(X)
    np.testing.assert_array_equal(logits, expected.decision_function(X))
    np.testing.assert_allclose(p, special.expit(0.9 * logits.astype(np.float64) - 0.1), rtol=1e-12)


@pytest.mark.parametrize("kind", ["task", "prior_task"])
def test_scores_are_the_models_logits_and_the_calibrators_probabilities(
    kind: str, request: pytest.FixtureRequest, files: dict[str, list[str]]
) -> None:
    task = request.getfixturevalue(kind)
    card = workers.train(task)
    model = workers.ScoringModel(task["folder"])
    X, _ = workers.read_examples(files["test"], FIELDS)
    logits, p = model.score(X)
    assert (model.model_id, model.fields) == (task["model_id"], FIELDS)
    assert (logits.dtype, p.dtype) == (np.float32, np.float64)
    slope, intercept = card["calibrator"]["slope"], card["calibrator"]["intercept"]
    np.testing.assert_allclose(p, special.expit(slope * logits.astype(np.float64) + intercept), rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("task", "blocks.npy"), ("task", "model.json"), ("prior_task", "rates.npy"), ("prior_task", "prior.json")],
)
def test_a_damaged_file_is_refused(kind: str, name: str, request: pytest.FixtureRequest) -> None:
    task = request.getfixturevalue(kind)
    workers.train(task)
    path = Path(task["folder"]) / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"model .*{task['model_id']} is damaged: {name} is not what was written"):
        workers.ScoringModel(task["folder"])


def test_a_missing_file_is_refused(prior_task: dict[str, Any]) -> None:
    workers.train(prior_task)
    (Path(prior_task["folder"]) / "lift.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"lift\.npy"):
        workers.ScoringModel(prior_task["folder"])


def test_an_unfinished_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"card\.json"):
        workers.ScoringModel(str(tmp_path))


def test_a_process_opens_a_model_once(prior_task: dict[str, Any]) -> None:
    workers.train(prior_task)
    assert workers.opened(prior_task["folder"]) is workers.opened(prior_task["folder"])


def test_scoring_cost_scores_the_same_block_again_and_again(task: dict[str, Any], files: dict[str, list[str]]) -> None:
    workers.train(task)
    wanted = {"folder": task["folder"], "files": files["test"], "fields": FIELDS, "rows": 100, "repeats": 3}
    found = workers.scoring_cost(wanted)
    assert [(row["repeat"], row["rows"]) for row in found] == [(1, 100), (2, 100), (3, 100)]
    assert all(row["wall_s"] > 0 and row["cpu_s"] >= 0 and row["peak_rss_mib"] > 10 for row in found)
    few = workers.scoring_cost(wanted | {"rows": 10_000})  # at most the rows there are
    assert {row["rows"] for row in few} == {250}


def touch(mib: int) -> int:
    return int(np.ones(mib << 20, np.uint8)[::4096].sum())


def resettable() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def test_the_peak_includes_what_was_freed_again() -> None:
    with workers.measured() as before:
        pass
    with workers.measured() as cost:
        touch(200)
    assert cost.peak_rss_mib >= before.peak_rss_mib + 150


@pytest.mark.skipif(not resettable(), reason="this kernel does not let a process reset its peak")
def test_the_peak_is_that_of_the_block_alone() -> None:
    with workers.measured() as large:
        touch(200)
    with workers.measured() as small:
        touch(1)
    assert small.peak_rss_mib < large.peak_rss_mib - 150


def test_measured_fills_the_times_when_the_block_ends() -> None:
    with workers.measured() as cost:
        assert (cost.wall_s, cost.cpu_s, cost.peak_rss_mib) == (0.0, 0.0, 0.0)
        touch(20)
    assert cost.wall_s > 0
    assert cost.peak_rss_mib > 10
