"""Training on a real cluster: the same bits as on one machine, and what happens when processes die or stand still."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from standalone_cluster import Cluster, Driver, wait_for

from ffm_udf import mixing, workers
from ffm_udf.row_store import RowStore, put

pytestmark = pytest.mark.slow

N_ROWS, N_VALID, N_FIELDS, VALUES = 400_000, 10_000, 12, 40
HYPER = {"k": 16, "seed": 5, "eta": 0.05, "l2": 2e-5, "epochs": 3, "patience": None}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough rows that a pass lasts for seconds and can be hit in its middle. Period 1 to train on, 2 for the rest."""
    folder, rng = tmp_path_factory.mktemp("rows"), np.random.default_rng(3)
    X = rng.integers(0, VALUES, (N_ROWS + N_VALID, N_FIELDS), np.int32)
    y = (rng.random(len(X)) < 0.05 + 0.002 * X[:, 0]).astype(np.int8)
    RowStore.create(folder, [f"field_{f}" for f in range(N_FIELDS)], {1: N_ROWS, 2: N_VALID})
    put(folder, 0, X + np.arange(N_FIELDS, dtype=np.int32) * VALUES, y)
    return folder


@pytest.fixture
def task(rows: Path, tmp_path: Path) -> dict[str, Any]:
    return task_of(rows, tmp_path / "model")


def task_of(rows: Path, folder: Path) -> dict[str, Any]:
    return {
        "model_id": "ffm-k16",
        "algorithm": "ffm",
        "role": "candidate",
        "folder": str(folder),
        "rows": str(rows),
        "fields": [f"field_{f}" for f in range(N_FIELDS)],
        "n_features": N_FIELDS * VALUES,
        "train": [1, 1],
        "valid": [2, 2],
        "calib": [2, 2],
        "hyperparameters": HYPER,
        "half_life": None,
        "init": None,
        "ordered": None,
        "calibrator": None,
        "strategy": "mixing",
        "lineage": {"hyperparameters": HYPER},
    }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), workers=2) as found:
        yield found


@pytest.fixture(scope="module")
def alone(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The model of two partitions, made in this process."""
    folder = tmp_path_factory.mktemp("alone")
    return mixing.train(task_of(rows, folder / "model"), folder / "work", 2, say=lambda text: None)


def arrays(card: dict[str, Any]) -> dict[str, str]:
    return {name: sha for name, sha in card["files"].items() if name.endswith(".npy")}


def driver(cluster: Cluster, task: dict[str, Any], folder: Path, **more: Any) -> Driver:
    """A driver that mixes `task` over two partitions."""
    return Driver(
        master=cluster.url, warehouse=folder / "warehouse", task=task, work=folder / "work", partitions=2, **more
    )


def in_pass(cluster: Cluster, driver: Driver, work: Path, epoch: int) -> psutil.Process:
    """Waits until partition 0 is in its pass of `epoch`; the Python process that does it."""

    def running() -> psutil.Process | None:
        assert driver.process.poll() is None, driver.result()
        beat = work / "heartbeats" / "0000"
        said = re.match(rf"pass {epoch} 1 (\d+) (\d+) ", beat.read_text() if beat.exists() else "")
        pid = int(said[2]) if said and int(said[1]) < N_ROWS // 2 else None
        return next((process for process in cluster.python_workers() if process.pid == pid), None)

    return wait_for(running, 240, f"the pass of epoch {epoch}")


def test_the_same_model_as_on_one_machine(
    cluster: Cluster, task: dict[str, Any], rows: Path, tmp_path: Path, alone: dict[str, Any]
) -> None:
    with driver(cluster, task, tmp_path, swept=task_of(rows, tmp_path / "swept")) as running:
        found = running.result()
    assert arrays(found["mixed"]) == arrays(alone)
    assert len(found["mixed"]["curve"]) == HYPER["epochs"]
    assert arrays(found["swept"]) == arrays(workers.train(task_of(rows, tmp_path / "here")))


def test_killed_processes_do_not_change_the_model(
    cluster: Cluster, task: dict[str, Any], tmp_path: Path, alone: dict[str, Any]
) -> None:
    """kill -9 of a Python worker in the middle of epoch 2 and of a whole executor in the middle of epoch 3."""
    with driver(cluster, task, tmp_path) as running:
        in_pass(cluster, running, tmp_path / "work", 2).kill()
        worker = in_pass(cluster, running, tmp_path / "work", 3)
        next(parent for parent in worker.parents() if parent in cluster.executors()).kill()
        found = running.result()
    assert arrays(found["mixed"]) == arrays(alone)


def test_a_worker_that_stands_still_is_named_and_a_rerun_goes_on(
    cluster: Cluster, task: dict[str, Any], tmp_path: Path, alone: dict[str, Any]
) -> None:
    with driver(cluster, task, tmp_path, options={"stall_timeout": 20.0}) as running:
        stopped = in_pass(cluster, running, tmp_path / "work", 2)
        stopped.send_signal(signal.SIGSTOP)
        error = running.result()["error"]
    assert re.match(r"partition 0 of 2, pass of epoch 2: no progress for \d+ s \([\d,]+ rows done, process", error)
    assert f"process {stopped.pid} on " in error
    told: list[str] = []
    card = mixing.train(task, tmp_path / "work", 2, say=told.append)
    assert told[0] == "resumed after epoch 1"
    assert arrays(card) == arrays(alone)


def test_a_cluster_without_workers_is_a_clear_error(task: dict[str, Any], tmp_path: Path) -> None:
    with (
        Cluster(tmp_path / "empty", workers=0) as empty,
        driver(empty, task, tmp_path, options={"slot_timeout": 2.0}) as running,
    ):
        found = running.result()
    assert found["error"].startswith("no executor registered within 2 s, so 2 partitions cannot run")
    assert not (tmp_path / "work").exists()
