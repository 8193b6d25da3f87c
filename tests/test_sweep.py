"""The sweep on Spark: the models of the tasks, told one by one, watched."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from row_task import FFM_PARAMETERS, training_task

from ffm_udf import heartbeat, workers
from ffm_udf.heartbeat import FINISHED, Beat
from jobs import sweep
from jobs.sweep import Training
from jobs.watched_job import JobError


def tasks_of(folder: Path) -> list[dict[str, Any]]:
    ffm = [
        training_task(folder, model_id=f"ffm-k{k}", hyperparameters=FFM_PARAMETERS | {"k": k, "epochs": 2})
        for k in (4, 1)
    ]
    return [*ffm, training_task(folder, "prior")]


def test_the_sweep_makes_the_models_of_its_tasks_and_tells_each(spark: Any, tmp_path: Path) -> None:
    tasks, told = tasks_of(tmp_path), []
    found = sweep.train(spark.sparkContext, tasks, 60.0, told.append)
    assert [card["model_id"] for card in found] == ["ffm-k4", "ffm-k1", "prior"]
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "rows").symlink_to(tmp_path / "rows")
    for card, task in zip(found, tasks, strict=True):
        again = workers.train(task | {"folder": str(tmp_path / "alone" / task["model_id"])})
        arrays = [name for name in card["files"] if name.endswith(".npy")]
        assert {name: card["files"][name] for name in arrays} == {name: again["files"][name] for name in arrays}
    assert sorted(line.split(":")[0] for line in told) == ["ffm-k1", "ffm-k4", "prior"]
    assert any("best epoch" in line and "of 2" in line for line in told)


def test_no_tasks_are_no_job() -> None:
    assert sweep.train(None, [], 60.0, print) == []  # ty: ignore[invalid-argument-type]


def test_a_task_that_fails_is_one_line(spark: Any, tmp_path: Path) -> None:
    task = training_task(tmp_path, train=[77, 78])
    with pytest.raises(JobError, match=r"^training failed: ValueError: periods 77\.\.78 have no rows; .* 5\.\.9$"):
        sweep.train(spark.sparkContext, [task], 60.0, print)


def test_a_training_that_stands_still_is_named_and_cancelled(spark: Any, tmp_path: Path) -> None:
    """Its process is stopped in the middle, as by a debugger or a dead mount."""
    hyper = FFM_PARAMETERS | {"epochs": 5_000_000, "patience": None}
    task = training_task(
        tmp_path, hyperparameters=hyper, valid=None, calib=None, calibrator={"slope": 1.0, "intercept": 0.0}
    )
    step = Training(task)

    def stop() -> None:
        while (beat := step.last_beat()) is None or beat.done <= 0:
            time.sleep(0.05)
        os.kill(beat.pid, signal.SIGSTOP)

    threading.Thread(target=stop, daemon=True).start()
    pattern = (
        r"^training of ffm: no progress for \d+ s \([\d,]+ s of CPU time used, process \d+ on .*\); the job is canc"
    )
    with pytest.raises(JobError, match=pattern):
        sweep.train(spark.sparkContext, [task], 6.0, print)
    beat = step.last_beat()
    assert beat is not None
    os.kill(beat.pid, signal.SIGCONT)  # nothing is left stopped


def test_a_working_process_beats_with_growing_cpu_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "EVERY", 0.02)
    path = tmp_path / "beats" / "one"
    with heartbeat.beating(path, "training"):
        first = heartbeat.last_beat(path, "training")
        assert first == Beat(0, os.getpid(), socket.gethostname())
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
        time.sleep(0.1)
        later = heartbeat.last_beat(path, "training")
        assert later is not None
        assert later.done >= 150  # milliseconds
    last = heartbeat.last_beat(path, "training")
    assert last is not None
    assert last.done == FINISHED
    assert heartbeat.last_beat(path, "merging") is None
    assert heartbeat.last_beat(tmp_path / "none", "training") is None


def test_waiting_is_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that waits for a lock or a mount stands still, although its heart beats."""
    monkeypatch.setattr(heartbeat, "EVERY", 0.01)
    path = tmp_path / "beats" / "one"
    with heartbeat.beating(path, "training"):
        time.sleep(0.2)
        early = heartbeat.last_beat(path, "training")
        time.sleep(1.0)  # a hundred beats
        late = heartbeat.last_beat(path, "training")
    assert early is not None
    assert late is not None
    assert late.done - early.done <= 1  # millisecond
