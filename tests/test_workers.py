"""What runs inside a training task, on tiny rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_task import FFM_PARAMETERS, PRIOR_PARAMETERS, SIZE, draw, training_task

from ffm_udf import FFM, card, workers
from ffm_udf.calibration import Calibrator
from ffm_udf.calibration import fit as fit_calibrator
from ffm_udf.prior import HierarchicalPrior
from ffm_udf.row_store import RowStore
from ffm_udf.scoring import ScoringModel


@pytest.fixture
def task(tmp_path: Path) -> dict[str, Any]:
    return training_task(tmp_path)


@pytest.fixture
def prior_task(tmp_path: Path) -> dict[str, Any]:
    return training_task(tmp_path, "prior")


def part(task: dict[str, Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    store = RowStore.open(task["rows"])
    span = store.span(*task[name])
    return np.array(store.X[span]), np.array(store.y[span])


def test_an_ffm_task_trains_calibrates_and_says_what_it_cost(task: dict[str, Any]) -> None:
    found = workers.train(task)
    folder = Path(task["folder"])
    assert json.loads((folder / card.NAME).read_text()) == found
    cost = found["cost"]
    assert cost["train_rows"] == 1700
    assert cost["epochs"] == len(found["curve"]) <= 4
    assert 1 <= cost["best_epoch"] <= cost["epochs"]
    # k for each of the two other fields and one linear weight per feature, and the bias
    assert cost["n_parameters"] == SIZE * (2 * 2 + 1) + 1
    assert cost["bytes_read"] == (1700 + 300) * (3 * 4 + 1)
    assert cost["artifact_bytes"] == sum(p.stat().st_size for p in folder.iterdir() if p.name != card.NAME)
    assert cost["peak_rss_mib"] > 10
    assert set(found["files"]) == {"blocks.npy", "linear.npy", "bias.npy", "model.json"}
    assert [(each["stage"], each["partition"]) for each in found["costs"]] == [
        ("fit", 0),
        ("calibrate", 0),
        ("save", 0),
    ]
    assert [each["rows"] for each in found["costs"]] == [1700 * cost["epochs"], 400, 0]
    assert found["began_at"] <= found["ended_at"]


def test_the_trained_model_is_that_of_fit_with_the_tasks_parameters(task: dict[str, Any]) -> None:
    found = workers.train(task)
    model = FFM(**FFM_PARAMETERS).fit(*part(task, "train"), eval_set=part(task, "valid"), n_features=SIZE)
    again = FFM.load(task["folder"])
    probe = draw(99, 50)[0]
    np.testing.assert_array_equal(again.decision_function(probe), model.decision_function(probe))
    Xc, yc = part(task, "calib")
    assert Calibrator(**found["calibrator"]) == fit_calibrator(model.decision_function(Xc), yc)
    assert found["refit_hyperparameters"] == FFM_PARAMETERS | {
        "epochs": model.best_epoch_, "patience": None, "keep_before_best": False,
    }  # fmt: skip


def test_a_prior_task_trains_the_prior(prior_task: dict[str, Any]) -> None:
    found = workers.train(prior_task)
    X, y = part(prior_task, "train")
    expected = HierarchicalPrior(**PRIOR_PARAMETERS).fit(X, y, n_features=SIZE)
    np.testing.assert_array_equal(ScoringModel(prior_task["folder"]).score(X)[0], expected.decision_function(X))
    assert (found["curve"], found["cost"]["epochs"], found["cost"]["best_epoch"]) == ([], 0, 0)
    assert found["cost"]["n_parameters"] == 2 * SIZE + SIZE + 1


def test_a_finished_folder_is_not_trained_again(task: dict[str, Any]) -> None:
    found = workers.train(task)
    for path in Path(task["rows"]).iterdir():
        path.unlink()
    assert workers.train(task) == found


def test_a_damaged_folder_is_trained_again(task: dict[str, Any]) -> None:
    found = workers.train(task)
    (Path(task["folder"]) / "linear.npy").write_bytes(b"cut")
    again = workers.train(task)
    assert again["files"]["linear.npy"] == found["files"]["linear.npy"]
    assert card.damaged(Path(task["folder"]), again) is None


@pytest.mark.parametrize("kind", ["task", "prior_task"])
def test_a_folder_without_a_card_is_trained_again(kind: str, request: pytest.FixtureRequest) -> None:
    task = request.getfixturevalue(kind)
    found = workers.train(task)
    folder = Path(task["folder"])
    # A worker died after its model was saved, while it wrote the card.
    (folder / card.NAME).rename(folder / f".{card.NAME}")
    again = workers.train(task)
    assert again["files"].keys() == found["files"].keys()
    assert (again["calibrator"], again["cost"]["n_parameters"]) == (found["calibrator"], found["cost"]["n_parameters"])
    ScoringModel(task["folder"])


def test_a_refit_takes_epochs_and_calibrator_from_its_task(tmp_path: Path) -> None:
    hyper = FFM_PARAMETERS | {"epochs": 2, "patience": None}
    calibrator = {"slope": 0.9, "intercept": -0.1}
    every = {"train": [5, 8], "valid": None, "calib": None}
    task = training_task(tmp_path, role="refit", hyperparameters=hyper, calibrator=calibrator, **every)
    found = workers.train(task)
    assert (found["cost"]["epochs"], found["cost"]["best_epoch"], found["cost"]["train_rows"]) == (2, 2, 2400)
    assert [entry["valid_logloss"] for entry in found["curve"]] == [None, None]
    assert found["calibrator"] == calibrator
    X, y = part(task, "train")
    expected = FFM(**hyper).fit(X, y, n_features=SIZE)
    np.testing.assert_array_equal(ScoringModel(task["folder"]).score(X)[0], expected.decision_function(X))


def test_rows_count_half_after_the_half_life(tmp_path: Path) -> None:
    task = training_task(tmp_path, half_life=2.0, train=[5, 7], valid=None)
    store = RowStore.open(task["rows"])
    expected = np.repeat(0.5 ** np.array([1.0, 0.5, 0.0]), [1000, 700, 300]).astype(np.float32)
    np.testing.assert_allclose(workers.row_weights(task, store), expected, rtol=1e-6)
    workers.train(task)
    X, y = part(task, "train")
    model = FFM(**FFM_PARAMETERS).fit(X, y, sample_weight=expected, n_features=SIZE)
    found = FFM.load(task["folder"]).decision_function(X)
    np.testing.assert_allclose(found, model.decision_function(X), atol=1e-5)
    assert workers.row_weights(task | {"half_life": None}, store) is None


def vocabulary(path: Path, values: dict[str, list[str]]) -> str:
    """A vocabulary file: per field its OOV feature (no value), then its values."""
    rows = [(field, value) for field, own in values.items() for value in (None, *own)]
    columns = {"field": [f for f, _ in rows], "value": [v for _, v in rows], "feature_id": list(range(len(rows)))}
    table = pa.table(columns, pa.schema({"field": pa.string(), "value": pa.string(), "feature_id": pa.int32()}))
    pq.write_table(table, path)
    return str(path)


def test_a_warm_start_begins_with_another_days_weights_under_todays_ids(tmp_path: Path) -> None:
    keeping = FFM_PARAMETERS | {"keep_before_best": True}
    before = training_task(tmp_path, model_id="before", hyperparameters=keeping)
    workers.train(before)
    fields = {"category": ["a", "b"], "family": list("pqrst"), "household": [str(i) for i in range(9)]}
    old = vocabulary(tmp_path / "old.parquet", fields)
    new = vocabulary(tmp_path / "new.parquet", fields | {"category": ["b", "c"]})  # a is gone, c is new
    init = {"model_id": "before", "folder": before["folder"], "old": old, "new": new}
    start = workers.initial(training_task(tmp_path, init=init))
    kept = FFM.load(Path(before["folder"]) / card.START)
    ids = [0, 2, 0, *range(3, SIZE)]  # c starts from the field's OOV feature
    np.testing.assert_array_equal(start.weights_.vectors, kept.weights_.vectors[ids])
    np.testing.assert_array_equal(start.weights_.linear[:, 0], kept.weights_.linear[ids, 0])
    np.testing.assert_array_equal(start.weights_.linear[[1, 2], 1], [kept.weights_.linear[2, 1], 1.0])
    found = workers.train(training_task(tmp_path, model_id="after", init=init))
    assert found["task"]["init"]["model_id"] == "before"
    cold = workers.train(training_task(tmp_path, model_id="cold"))
    assert found["curve"][0]["train_logloss"] < cold["curve"][0]["train_logloss"]


def test_the_card_repeats_the_task_but_not_where_it_was_done(task: dict[str, Any]) -> None:
    told = workers.train(task)["task"]
    assert told == {name: task[name] for name in task if name not in ("folder", "rows", "lineage", "fields")}
