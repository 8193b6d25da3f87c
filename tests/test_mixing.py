"""Parameter mixing: the algorithm against the slow oracle, what survives a crash, and how it behaves on Spark."""

from __future__ import annotations

import os
import pickle
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from ffm_udf import FFM, mixing, workers
from ffm_udf.heartbeat import FINISHED, Beat
from ffm_udf.mixing_steps import Mixing, Step
from ffm_udf.mixing_tasks import merged, row_order
from ffm_udf.row_store import RowStore, put
from jobs import mixing as spark_mixing
from jobs import watched_job
from jobs.watched_job import JobError
from naive import NaiveFFM

FIELDS = ["category", "family", "household"]
OFFSET, SIZE = [0, 3, 9], 19  # of each field's ids, and the number of ids
PERIODS = {1: 500, 2: 0, 3: 701, 4: 300, 5: 400}  # rows of each
HYPER = {"k": 2, "seed": 3, "eta": 0.03, "l2": 2e-5, "epochs": 5, "patience": 2, "keep_before_best": True}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows whose conversion rate depends on the household and on its category; train 1..3, valid 4, calib 5."""
    folder, n = tmp_path_factory.mktemp("rows"), sum(PERIODS.values())
    rng = np.random.default_rng(11)
    ids = np.stack([rng.integers(0, size, n) for size in (3, 6, 10)], axis=1)
    p = special.expit(-1 + 0.8 * (ids[:, 2] % 3 - 1) * (ids[:, 0] - 1))
    RowStore.create(folder, FIELDS, PERIODS)
    put(folder, 0, (ids + OFFSET).astype(np.int32), (rng.random(n) < p).astype(np.int8))
    return folder


def task_of(rows: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    hyper = HYPER | changes.pop("hyperparameters", {})
    return {
        "model_id": "ffm-k2",
        "algorithm": "ffm",
        "role": "candidate",
        "folder": str(folder),
        "rows": str(rows),
        "fields": FIELDS,
        "n_features": SIZE,
        "train": [1, 3],
        "valid": [4, 4],
        "calib": [5, 5],
        "hyperparameters": hyper,
        "half_life": None,
        "init": None,
        "ordered": None,
        "calibrator": None,
        "strategy": "mixing",
        "lineage": {"hyperparameters": hyper},
    } | changes


def quietly(text: str) -> None:
    """Says nothing."""


def curve(card: dict[str, Any]) -> list[tuple[int, float, float]]:
    return [(entry["epoch"], entry["train_logloss"], entry["valid_logloss"]) for entry in card["curve"]]


def arrays(card: dict[str, Any]) -> dict[str, str]:
    """Checksums of the model's arrays: model.json also has the seconds."""
    return {name: sha for name, sha in card["files"].items() if name.endswith(".npy")}


@pytest.mark.parametrize(
    "changes",
    [{}, {"half_life": 2.0}, {"hyperparameters": {"negative_rate": 0.5}}, {"valid": None}],
    ids=["plain", "half_life", "negative_rate", "no_validation"],
)
def test_one_partition_is_an_ordinary_fit_bit_for_bit(rows: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    fitted = workers.train(task_of(rows, tmp_path / "fit", **changes))
    mixed = mixing.train(task_of(rows, tmp_path / "mixed", **changes), tmp_path / "work", 1, say=quietly)
    assert len(arrays(mixed)) == 6  # the model, and with its AdaGrad sums the start of the next day
    assert arrays(mixed) == arrays(fitted)
    assert mixed["cost"]["best_epoch"] == fitted["cost"]["best_epoch"]
    assert mixed["calibrator"] == fitted["calibrator"]
    assert set(mixed["cost"]) == set(fitted["cost"])
    np.testing.assert_allclose(
        np.array(curve(mixed), float), np.array(curve(fitted), float), rtol=1e-12, equal_nan=True
    )


def naive_mixing(
    X: np.ndarray, y: np.ndarray, start: FFM, partitions: int, syncs: int, merge: str, epochs: int
) -> NaiveFFM:
    """The algorithm in plain Python: Juan et al. 2017, Algorithm 2, with the orders that mixing documents."""
    shared = naive_copy_of_start(start, eta=HYPER["eta"] * partitions)
    for epoch in range(1, epochs + 1):
        orders = []
        for p in range(partitions):
            mine = np.arange(p, len(X), partitions)
            orders.append(np.random.default_rng([HYPER["seed"], epoch, p]).permutation(mine))
        for sync in range(syncs):
            ends = []
            for order in orders:
                worker = copied(shared)
                for row in order[len(order) * sync // syncs : len(order) * (sync + 1) // syncs]:
                    worker.step([(f, int(j), 1.0) for f, j in enumerate(X[row])], int(y[row]))
                ends.append(worker)
            shared = merged_by_hand(shared, ends, merge)
    return shared


def naive_copy_of_start(model: FFM, eta: float) -> NaiveFFM:
    weights = model.fitted_weights()
    return NaiveFFM(v=weights.vectors.astype(float).tolist(), w=[0.0] * SIZE, eta=eta, l2=HYPER["l2"])


def copied(model: NaiveFFM) -> NaiveFFM:
    other = NaiveFFM(v=[[list(a) for a in block] for block in model.v], w=list(model.w), b=model.b, eta=model.eta,
                     l2=model.l2)  # fmt: skip
    other.v_sums = [[list(a) for a in block] for block in model.v_sums]
    other.w_sums, other.b_sum = list(model.w_sums), model.b_sum
    return other


def merged_by_hand(start: NaiveFFM, ends: list[NaiveFFM], merge: str) -> NaiveFFM:
    def sums(before: Any, after: list[Any]) -> Any:
        before, after = np.array(before), np.array(after)
        return (after.mean(axis=0) if merge == "average" else before + (after - before).sum(axis=0)).tolist()

    out = copied(start)
    out.v = np.mean([end.v for end in ends], axis=0).tolist()
    out.w = np.mean([end.w for end in ends], axis=0).tolist()
    out.b = float(np.mean([end.b for end in ends]))
    out.v_sums = sums(start.v_sums, [end.v_sums for end in ends])
    out.w_sums = sums(start.w_sums, [end.w_sums for end in ends])
    out.b_sum = sums(start.b_sum, [end.b_sum for end in ends])
    return out


@pytest.mark.parametrize(
    ("partitions", "syncs", "merge"),
    [(1, 1, "sum"), (2, 1, "sum"), (3, 1, "sum"), (2, 3, "sum"), (3, 1, "average")],
)
def test_mixing_against_the_slow_oracle(rows: Path, tmp_path: Path, partitions: int, syncs: int, merge: str) -> None:
    hyper = {"epochs": 3, "patience": None}
    task = task_of(rows, tmp_path / "model", train=[4, 4], valid=None, hyperparameters=hyper)
    run = mixing.Run(Mixing(task, tmp_path / "work", partitions, syncs, merge), mixing.serially, quietly)
    run.prepare()
    store = RowStore.open(rows)
    X, y = store.X[store.span(4, 4)], store.y[store.span(4, 4)]
    start = FFM(**HYPER | hyper)
    start.weights_ = run.mixing.weights(0).copy()
    run.train()
    found = run.mixing.weights(3)
    naive = naive_mixing(X, y, start, partitions, syncs, merge, epochs=3)
    layout = found.layout
    np.testing.assert_allclose(found.vectors, np.array(naive.v), atol=2e-5)
    np.testing.assert_allclose(found.linear[:, 0], naive.w, atol=2e-5)
    np.testing.assert_allclose(found.bias, [[naive.b, naive.b_sum]], rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(found.linear[:, 1], naive.w_sums, rtol=1e-4)
    sums = found.table[:, layout.weights_width : layout.weights_width + layout.n_fields]
    np.testing.assert_allclose(sums, np.array(naive.v_sums)[:, :, 0], rtol=1e-4)


def test_merging_two_rows_by_hand() -> None:
    # two columns of weights, then one AdaGrad sum
    start = np.array([[1.0, 2.0, 5.0]], np.float32)
    ends = [np.array([[1.5, 2.0, 6.0]], np.float32), np.array([[2.5, 4.0, 9.0]], np.float32)]
    assert merged(start, ends, 2, "sum").tolist() == [[2.0, 3.0, 10.0]]  # 5 + (6 - 5) + (9 - 5)
    assert merged(start, ends, 2, "average").tolist() == [[2.0, 3.0, 7.5]]


@pytest.mark.parametrize(("partitions", "syncs"), [(1, 1), (2, 1), (3, 1), (2, 3), (7, 2)])
def test_every_row_is_seen_once_per_epoch_in_equal_shares(
    rows: Path, tmp_path: Path, partitions: int, syncs: int
) -> None:
    run = Mixing(task_of(rows, tmp_path / "model"), tmp_path, partitions, syncs, "sum")
    orders = {
        (p, sync): row_order(Step(run, "pass", 2, sync, p), 1201)
        for p in range(partitions)
        for sync in range(1, syncs + 1)
    }
    assert sorted(np.concatenate(list(orders.values())).tolist()) == list(range(1201))
    shares = [sum(len(orders[p, sync]) for sync in range(1, syncs + 1)) for p in range(partitions)]
    assert max(shares) - min(shares) <= 1
    assert all((order % partitions == p).all() for (p, _), order in orders.items())
    other = row_order(Step(run, "pass", 3, 1, 0), 1201)
    assert other.tolist() != orders[0, 1].tolist()


def test_the_step_size_grows_with_the_partitions() -> None:
    assert [mixing.step_size(0.1, p) for p in (1, 8)] == pytest.approx([0.1, 0.8])


CURVES = [
    ([0.5, 0.4, 0.45, 0.46], 2, 2, True),
    ([0.5, 0.4, 0.45], 2, 2, False),
    ([0.5, 0.4, 0.4], 2, 2, False),  # not better is worse
    ([0.5, 0.4, 0.45, 0.46], None, 4, False),
    ([None, None], 2, 2, False),
    ([0.5, 0.4, 0.3, 0.2, 0.1], 2, 5, True),  # the epochs are used up
    ([], 2, 0, False),
]


@pytest.mark.parametrize(("losses", "patience", "best", "finished"), CURVES)
def test_early_stopping_as_in_fit(losses: list[float | None], patience: int | None, best: int, finished: bool) -> None:
    history = [{"epoch": epoch, "valid_logloss": loss} for epoch, loss in enumerate(losses, 1)]
    assert mixing.best_epoch(history, patience) == best
    assert mixing.is_finished(history, 5, patience) is finished


class Crash(Exception):
    """Stands for the death of the driver."""


class Crashing:
    """Does steps until the one of `stage` and `epoch`, of which it does `partial` and then dies."""

    def __init__(self, stage: str, epoch: int, partial: int = 0) -> None:
        self.stage, self.epoch, self.partial = stage, epoch, partial

    def __call__(self, steps: list[Step]) -> list[dict[str, Any]]:
        if (steps[0].stage, steps[0].epoch) == (self.stage, self.epoch):
            mixing.serially(steps[: self.partial])
            raise Crash
        return mixing.serially(steps)


@pytest.fixture(scope="module")
def undisturbed(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return mixing.train(task_of(rows, folder / "model"), folder / "work", 3, 2, say=quietly)


def crashed(task: dict[str, Any], work: Path, crashing: Crashing) -> None:
    with pytest.raises(Crash):
        mixing.train(task, work, 3, 2, execute=crashing, say=quietly)


@pytest.mark.parametrize(
    ("crashing", "said"),
    [
        (Crashing("pass", 1, 2), None),
        (Crashing("pass", 3), "resumed after epoch 2"),
        (Crashing("merge", 3, 2), "resumed after epoch 2"),
        (Crashing("validation", 3, 1), "resumed after epoch 2"),
        (Crashing("finish", 5), "resumed after epoch 5"),
    ],
    ids=["first_epoch", "pass", "merge", "validation", "finish"],
)
def test_a_rerun_after_a_crash_gives_the_same_bits(
    rows: Path, tmp_path: Path, undisturbed: dict[str, Any], crashing: Crashing, said: str | None
) -> None:
    task, work, told = task_of(rows, tmp_path / "model"), tmp_path / "work", []
    crashed(task, work, crashing)
    card = mixing.train(task, work, 3, 2, say=told.append)
    assert arrays(card) == arrays(undisturbed)
    assert curve(card) == curve(undisturbed)
    assert [text for text in told if "resumed" in text] == ([said] if said else [])
    assert not work.exists()


@pytest.mark.parametrize("damage", ["manifest", "arrays", "missing"])
def test_damaged_checkpoints_do_not_count(rows: Path, tmp_path: Path, undisturbed: dict[str, Any], damage: str) -> None:
    task, work, told = task_of(rows, tmp_path / "model"), tmp_path / "work", []
    crashed(task, work, Crashing("pass", 3))
    manifest, folder = work / "epoch-0002.json", work / "epoch-0002"
    if damage == "manifest":
        manifest.write_text(manifest.read_text().replace('"epoch": 2', '"epoch": 7'))
    elif damage == "arrays":
        content = bytearray((folder / "blocks.npy").read_bytes())
        content[-1] ^= 1
        (folder / "blocks.npy").write_bytes(content)
    else:
        (folder / "bias.npy").unlink()
    card = mixing.train(task, work, 3, 2, say=told.append)
    assert "resumed after epoch 2" not in told
    assert arrays(card) == arrays(undisturbed)


def test_a_checkpoint_of_another_run_does_not_count(rows: Path, tmp_path: Path) -> None:
    task, work, told = task_of(rows, tmp_path / "model"), tmp_path / "work", []
    crashed(task, work, Crashing("pass", 3))
    mixing.train(task, work, 2, 2, say=told.append)
    assert not any("resumed" in text for text in told)


def test_steps_done_twice_give_the_same_bits(rows: Path, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    def twice(steps: list[Step]) -> list[dict[str, Any]]:
        mixing.serially(steps)
        return mixing.serially(steps)

    card = mixing.train(task_of(rows, tmp_path / "model"), tmp_path / "work", 3, 2, execute=twice, say=quietly)
    assert arrays(card) == arrays(undisturbed)


def test_only_what_is_needed_stays_on_disk(rows: Path, tmp_path: Path) -> None:
    work, kept = tmp_path / "work", {}

    def look(steps: list[Step]) -> list[dict[str, Any]]:
        if steps[0].stage == "pass" and steps[0].sync == 1:
            kept[steps[0].epoch] = {path.stem for path in work.iterdir() if path.name != "heartbeats"}
        return mixing.serially(steps)

    task = task_of(rows, tmp_path / "model", hyperparameters={"eta": 1.5, "epochs": 6, "patience": 3})
    card = mixing.train(task, work, 2, 2, execute=look, say=quietly)
    losses = [entry["valid_logloss"] for entry in card["curve"]]
    for epoch, found in kept.items():
        best = int(np.argmin(losses[: epoch - 1])) + 1 if epoch > 1 else 0
        assert found == {f"epoch-{e:04d}" for e in {epoch - 1, best, max(best - 1, 0)}}, epoch
    assert card["cost"]["best_epoch"] < len(losses) == len(kept)  # this step size is too large: it stopped early


def test_what_passes_through_the_driver_is_small(rows: Path, tmp_path: Path) -> None:
    def weigh(steps: list[Step]) -> list[dict[str, Any]]:
        found = mixing.serially(steps)
        if steps[0].stage in ("pass", "merge", "validation"):
            assert max(len(pickle.dumps(one)) for one in (*steps, *found)) < 4000
        return found

    card = mixing.train(task_of(rows, tmp_path / "model"), tmp_path / "work", 2, execute=weigh, say=quietly)
    stages = {(cost["stage"], cost["partition"]) for cost in card["costs"]}
    assert {(stage, p) for stage in ("pass", "merge", "validation") for p in (0, 1)} < stages
    # 1201 training rows in 5 epochs, the odd one in partition 0
    assert [cost["rows"] for cost in card["costs"] if cost["stage"] == "pass"] == [601 * 5, 600 * 5]


def test_a_finished_model_is_returned_as_it_is(rows: Path, tmp_path: Path) -> None:
    task = task_of(rows, tmp_path / "model")
    card = mixing.train(task, tmp_path / "work", 2, say=quietly)
    assert mixing.train(task, tmp_path / "work", 2, say=quietly) == card


@pytest.mark.parametrize(
    ("partitions", "syncs", "merge", "changes", "message"),
    [
        (0, 1, "sum", {}, "partitions must be at least 1, got 0"),
        (1, 0, "sum", {}, "syncs must be at least 1, got 0"),
        (1, 1, "mean", {}, "merge must be one of sum, average, got 'mean'"),
        (1, 1, "sum", {"algorithm": "prior"}, "only the algorithm ffm can be mixed, got 'prior'"),
        (601, 2, "sum", {}, "partitions x syncs must be at most the 1201 rows to train on, got 601 x 2"),
        (1, 1, "sum", {"fields": ["a", "b", "c"]}, r"have the fields \['category'.*the task \['a'"),
        (1, 1, "sum", {"n_features": 18}, r"X feature id must be in 0..17, got 18 \(row \d+, field 2\)"),
    ],
)
def test_bad_arguments_are_named(
    rows: Path, tmp_path: Path, partitions: int, syncs: int, merge: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mixing.train(task_of(rows, tmp_path / "m", **changes), tmp_path / "work", partitions, syncs, merge)


def test_divergence_is_an_error(rows: Path, tmp_path: Path) -> None:
    task = task_of(rows, tmp_path / "model", hyperparameters={"eta": 3e4})
    with pytest.raises(FloatingPointError, match=r"diverged in epoch 1: .* on 2 partitions; use a smaller eta"):
        mixing.train(task, tmp_path / "work", 2, say=quietly)


def test_a_model_that_does_not_fit_is_refused(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffm_udf.memory.available_bytes", lambda: 5000)
    with pytest.raises(MemoryError, match=r"training a model of 19 features x 3 fields x k=2.* 5,000 bytes"):
        mixing.train(task_of(rows, tmp_path / "model"), tmp_path / "work", 2, say=quietly)


# The driver half


def test_without_executors_it_fails_instead_of_waiting() -> None:
    with pytest.raises(JobError, match="no executor registered within 0 s, so 2 partitions cannot run"):
        watched_job.check_slots(2, lambda: 0, 0.2, quietly)


def test_too_few_slots_are_said() -> None:
    told: list[str] = []
    watched_job.check_slots(5, lambda: 2, 0.1, told.append)
    assert told == ["5 partitions on 2 slots: they run in 3 waves"]


def test_executors_that_are_still_registering_are_waited_for() -> None:
    told: list[str] = []
    counts = iter([0, 0, 1, 1, 2])
    watched_job.check_slots(2, lambda: next(counts), 5.0, told.append)
    assert told == []


@pytest.fixture
def steps(rows: Path, tmp_path: Path) -> list[Step]:
    (tmp_path / "heartbeats").mkdir()
    run = Mixing(task_of(rows, tmp_path / "model"), tmp_path, 3, 1, "sum")
    return [Step(run, "pass", 4, 1, p) for p in range(3)]


def test_the_partition_that_stands_still_is_named(steps: list[Step]) -> None:
    watch, me = watched_job.Watch(steps, 10.0, now=0.0), f"process {os.getpid()} on {socket.gethostname()}"
    for step in steps[:2]:
        step.beat(0)
    assert watch.look(1.0) is None
    steps[0].beat(200_000)
    assert watch.look(9.0) is None
    # partition 2 has not begun: it waits for a slot, and is not to blame
    expected = f"partition 1 of 3, pass of epoch 4: no progress for 11 s (0 rows done, {me}); the job is cancelled"
    assert watch.look(12.0) == expected
    steps[1].beat(FINISHED)
    assert watch.look(13.0) is None
    expected = (
        f"partition 0 of 3, pass of epoch 4: no progress for 11 s (200,000 rows done, {me}); the job is cancelled"
    )
    assert watch.look(20.0) == expected
    steps[0].beat(FINISHED)
    assert watch.look(21.0) is None
    assert watch.look(80.0) is None  # a process may need a minute to start
    assert watch.look(82.0) == (
        "partition 2 of 3, pass of epoch 4: no progress for 61 s (no process has begun it); the job is cancelled"
    )


def test_heartbeats_of_other_steps_do_not_count(steps: list[Step]) -> None:
    assert steps[0].last_beat() is None
    replace(steps[0], epoch=3).beat(5)
    assert steps[0].last_beat() is None
    replace(steps[0], stage="merge").beat(5)
    assert steps[0].last_beat() is None
    steps[0].beat(7)
    assert steps[0].last_beat() == Beat(7, os.getpid(), socket.gethostname())


@pytest.mark.parametrize("partitions", [2, 5])
def test_spark_gives_the_bits_of_the_serial_run(spark: Any, rows: Path, tmp_path: Path, partitions: int) -> None:
    told: list[str] = []
    here, there = (task_of(rows, tmp_path / name, hyperparameters={"epochs": 2}) for name in ("here", "there"))
    serial = mixing.train(here, tmp_path / "a", partitions, say=quietly)
    card = spark_mixing.train(spark, there, tmp_path / "b", partitions, say=told.append)
    assert arrays(card) == arrays(serial)
    assert curve(card) == curve(serial)
    slots = watched_job.slots(spark.sparkContext)
    said = [f"{partitions} partitions on {slots} slots: they run in {-(-partitions // slots)} waves"]
    assert [text for text in told if "waves" in text] == (said if partitions > slots else [])


def test_a_failing_step_is_one_clear_line(spark: Any, rows: Path, tmp_path: Path) -> None:
    task = task_of(rows, tmp_path / "model", fields=["a", "b", "c"])
    with pytest.raises(JobError, match=r"^prepare of epoch 0 failed: ValueError: rows .* have the fields .*$"):
        spark_mixing.train(spark, task, tmp_path / "work", 2, say=quietly)


@pytest.mark.slow
def test_a_job_without_progress_is_cancelled(spark: Any, rows: Path, tmp_path: Path) -> None:
    """A pass that waits for ever for its input: after epoch 1 the row weights become a pipe that nobody writes to."""
    work, task = tmp_path / "work", task_of(rows, tmp_path / "model", hyperparameters={"epochs": 2})

    def block(text: str) -> None:
        if text.startswith("epoch 1:"):
            os.mkfifo(work / "importance.npy")

    with pytest.raises(
        JobError, match=r"^partition \d of 2, pass of epoch 2: no progress for \d+ s \(0 rows done, process \d+ on "
    ):
        spark_mixing.train(spark, task, work, 2, stall_timeout=6.0, say=block)
    (work / "importance.npy").unlink()
    told: list[str] = []
    spark_mixing.train(spark, task, work, 2, say=told.append)
    assert told[0] == "resumed after epoch 1"
