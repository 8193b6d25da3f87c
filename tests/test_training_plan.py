"""The plan of a night's training: what fits, how long it takes, which strategy, and that only k varies."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from row_task import FFM_PARAMETERS, training_task

from ffm_udf import workers
from jobs import training_plan
from jobs.training_plan import (
    LARGE,
    Choice,
    Need,
    Options,
    Strategy,
    TrainError,
    check_memory,
    choose,
    makespan,
    need,
    only_k_varies,
    plan_table,
    rates,
)


def ffm(folder: Path, k: int, **changes: Any) -> dict[str, Any]:
    return training_task(folder, model_id=f"ffm-k{k}", hyperparameters=FFM_PARAMETERS | {"k": k} | changes)


def test_longest_first_over_two_workers() -> None:
    # 7 | 5, then 4 joins 5 (9), 3 joins 7 (10), 2 joins 9 (11).
    assert makespan([3, 5, 2, 7, 4], 2) == 11
    assert makespan([3, 5], 8) == 5
    assert makespan([], 2) == 0


@pytest.mark.parametrize("k", [1, 3, 16])
def test_the_predicted_size_is_that_of_the_files(tmp_path: Path, k: int) -> None:
    task = ffm(tmp_path, k)
    workers.train(task)
    files = (Path(task["folder"]) / name for name in ("blocks.npy", "linear.npy", "bias.npy"))
    header = 128  # of a .npy file
    expected = sum(path.stat().st_size - header for path in files)
    assert need(task, 1700, {}).artifact_bytes == expected


def test_the_predicted_size_of_an_fm_is_that_of_its_files(tmp_path: Path) -> None:
    task = training_task(tmp_path, "fm", hyperparameters={"k": 3, "epochs": 1, "patience": None})
    workers.train(task)
    files = list(Path(task["folder"]).glob("*.npy"))
    assert need(task, 1700, {}).artifact_bytes == sum(path.stat().st_size - 128 for path in files)


def test_predicted_seconds_are_all_epochs_at_the_measured_rate(tmp_path: Path) -> None:
    task = ffm(tmp_path, 2)
    assert need(task, 1700, {("ffm", 2): 340.0}).seconds == 1700 * 4 / 340
    assert need(training_task(tmp_path, "prior"), 1700, {}) == Need(0, 0, 0.0)


def test_rates_are_measured_once_per_k(tmp_path: Path) -> None:
    from ffm_udf.row_store import RowStore

    tasks = [ffm(tmp_path, 1), ffm(tmp_path, 2, seed=9), ffm(tmp_path, 2), training_task(tmp_path, "prior")]
    found = rates(tasks, RowStore.open(tasks[0]["rows"]))
    assert set(found) == {("ffm", 1), ("ffm", 2)}
    assert all(rate > 1000 for rate in found.values())


def test_small_data_is_swept_and_large_data_mixed_where_that_is_sooner() -> None:
    one = [Need(1, 1, 4000.0)]
    assert choose(Options(), LARGE - 1, one, 8, 10).way == "sweep"
    # One model on 8 slots: 4000 s alone; mixed 4000 / 8 = 500 s and 10 merges of half a second.
    chosen = choose(Options(), LARGE, one, 8, 10)
    assert (chosen.way, chosen.partitions, chosen.syncs) == ("mixing", 8, 1)
    assert "sweep 4,000 s, mixing 505 s" in chosen.why
    # Sixteen models keep 8 slots busy by themselves: 8000 s against 16 · 505 s.
    assert choose(Options(), LARGE, one * 16, 8, 10).way == "sweep"


def test_models_that_do_not_fit_side_by_side_are_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_plan, "available_bytes", lambda: 100)
    chosen = choose(Options(), LARGE, [Need(1, 60, 10.0)] * 4, 2, 10)
    assert chosen.way == "mixing"
    assert "do not fit side by side" in chosen.why


def test_what_is_asked_for_is_done() -> None:
    needs = [Need(1, 1, 10.0)]
    assert choose(Options(strategy=Strategy.mixing, partitions=3, syncs=2), 1000, needs, 2, 10) == Choice(
        "mixing", 3, 2, "asked for"
    )
    assert choose(Options(strategy=Strategy.sweep), 10 * LARGE, needs, 8, 10).way == "sweep"
    with pytest.raises(TrainError, match="partitions must not exceed the 1,000 training rows, got 2,000"):
        choose(Options(strategy=Strategy.mixing, partitions=2000), 1000, needs, 2, 10)


def test_a_plan_that_cannot_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [ffm(tmp_path, k) for k in (8, 4, 1)]
    needs = [Need(0, size << 30, 0.0) for size in (3, 2, 1)]
    monkeypatch.setattr(training_plan, "available_bytes", lambda: 5 << 30)
    check_memory(tasks, needs, 2, Choice("sweep", 1, 1, ""))
    with pytest.raises(TrainError, match=r"got 6\.00 GiB for 3 models at once \(k up to 8\) where 5\.00 GiB are free"):
        check_memory(tasks, needs, 3, Choice("sweep", 1, 1, ""))
    with pytest.raises(TrainError, match=r"got 6\.00 GiB for 2 models at once"):  # a copy per partition
        check_memory(tasks, needs, 4, Choice("mixing", 2, 1, ""))


def test_only_k_and_the_seed_may_differ(tmp_path: Path) -> None:
    tasks = [ffm(tmp_path, 1), ffm(tmp_path, 8, seed=5), training_task(tmp_path, "prior")]
    only_k_varies(tasks)
    for name, value in (("eta", 0.2), ("l2", 0.0), ("epochs", 9), ("patience", 1), ("linear", False)):
        with pytest.raises(TrainError, match=r"only k and the seed may differ .* different \['hyperparameters'\]"):
            only_k_varies([*tasks, ffm(tmp_path, 2, **{name: value})])
    for name, value in (("train", [6, 6]), ("half_life", 3.0)):
        with pytest.raises(TrainError, match=rf"got different \['{name}'\]"):
            only_k_varies([*tasks, ffm(tmp_path, 2) | {name: value}])


def test_the_table_shows_every_model_and_the_whole(tmp_path: Path) -> None:
    tasks = [ffm(tmp_path, 2), training_task(tmp_path, "prior")]
    needs = [need(task, 1700, {("ffm", 2): 10.0}) for task in tasks]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(plan_table(tasks, needs, 1700, 2, Choice("sweep", 1, 1, "asked for")))
    text = console.export_text()
    assert "2 models on 1,700 rows, strategy sweep: asked for" in text
    # 1700 rows · 4 epochs / 10 rows/s = 680 s = 11.33 minutes, rounded up to tenths
    assert "all epochs on 2 cores: 11.4 minutes" in text
    assert [line.split()[1] for line in text.splitlines() if "│" in line] == ["ffm", "prior"]
    assert "unknown" in text
