"""Training jobs on the real data: what Spark, reading, validation, merging and saving add to the bare kernel passes.

Both sides use two processes on two cores. The clock of a job runs from the start of its first task to the end of its
last; the kernel's is the longer of its two processes' summed passes. Compilation and session start are apart.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import big_rows, promo_rows
from bench.report import ROOT, Measure, write
from jobs import mixing, row_arrays, sweep
from jobs.training_tasks import spans

REPEATS, EPOCHS, SLOTS = 3, 4, 2
SWEEP_K = (8, 4, 2, 1)
MIX_K = 4
TITLE = "Training jobs"


def main():
    began = time.perf_counter()
    cycle, spark = promo_rows.cycle_with_rows()
    rows = row_arrays.opened(cycle)
    first, last = spans(cycle)["train"]
    n = rows.span(first, last).stop - rows.span(first, last).start
    task = base_task(cycle)
    warm(spark, task)
    ready = time.perf_counter() - began
    sweep, mixed, jit = [], [], []
    for _ in range(REPEATS):
        wall, compiled = sweep_wall(spark, task)
        sweep.append(wall / kernel_wall(task, [[8], [4, 2, 1]], 1))
        mixed.append(mixing_wall(spark, task) / kernel_wall(task, [[MIX_K], [MIX_K]], SLOTS))
        jit.append(compiled)
    measures = [
        Measure.at_most("sweep of k = 1, 2, 4, 8: job ÷ kernel passes", statistics.median(sweep), "×", 1.35),
        Measure.at_most("mixing of k = 4 over two partitions: job ÷ kernel passes", statistics.median(mixed), "×", 1.6),
        Measure("kernels loaded from the cache, in the workers, slowest task", max(jit), "s"),
        Measure("session and rows ready", ready, "s"),
        *big_rows.measures(),
    ]
    notes = (
        f"{n:,} training rows of `conf/promo_benchmark.yml`, {EPOCHS} epochs each with validation, {SLOTS} tasks at a "
        f"time, medians of {REPEATS} repeats in turn with the kernel's. The jobs are those of the nightly: watched, "
        f"with copies of the best epoch and the one before, calibration and saving. The last rows generate their data."
    )
    write("train", TITLE, measures, notes)


def base_task(cycle):
    """A training task without what a grid varies."""
    ends, vocabulary = spans(cycle), cycle.dataset("vocabulary")
    return {
        "algorithm": "ffm",
        "role": "candidate",
        "candidate_id": None,
        "rows": str(cycle.dataset("rows").root),
        "rows_key": cycle.dataset("rows").key,
        "fields": cycle.contract.field_names,
        "n_features": vocabulary.rows,
        **{part: ends[part] for part in ("train", "valid", "calib")},
        "window": None,
        "half_life": None,
        "init": None,
        "ordered": None,
        "calibrator": None,
        "lineage": {},
    }


def of(task, folder, k, way="sweep", epochs=EPOCHS):
    """The task for one k, writing below `folder`."""
    hyper = {"k": k, "seed": 1, "eta": 0.2, "l2": 2e-5, "epochs": epochs, "patience": epochs, "keep_before_best": True}
    about = {"model_id": f"bench-k{k}", "folder": str(Path(folder) / f"k{k}"), "hyperparameters": hyper}
    return task | about | {"strategy": {"way": way, "partitions": 1, "syncs": 1}}


def warm(spark, task):
    """Start the Python workers and load the kernels of every k in them."""
    with tempfile.TemporaryDirectory() as folder:
        short = task | {"train": [task["valid"][0]] * 2}
        for place in range(2):
            tasks = [of(short, Path(folder) / str(place), k, epochs=1) for k in SWEEP_K]
            sweep.train(spark.sparkContext, tasks, 300.0, lambda text: None)


def sweep_wall(spark, task):
    """Seconds from the first task's start to the last one's end, and the longest compilation among them."""
    with tempfile.TemporaryDirectory() as folder:
        tasks = [of(task, folder, k) for k in SWEEP_K]
        cards = sweep.train(spark.sparkContext, tasks, 300.0, lambda text: None)
    compiled = max(cost["jit_s"] for card in cards for cost in card["costs"])
    return max(card["ended_at"] for card in cards) - min(card["began_at"] for card in cards), compiled


def mixing_wall(spark, task):
    """Seconds from the first task's start to the last one's end."""
    with tempfile.TemporaryDirectory() as folder:
        one = of(task, folder, MIX_K, "mixing")
        card = mixing.train(spark, one, Path(folder) / "work", SLOTS, say=lambda text: None)
    return card["ended_at"] - card["began_at"]


def kernel_wall(task, lists, partitions):
    """Seconds of the longest of two processes that pass the epochs of `lists` (of k) side by side."""
    with tempfile.TemporaryDirectory() as folder:
        running = []
        for place, ks in enumerate(lists):
            known = {name: task[name] for name in ("rows", "train", "n_features")}
            part = {"partition": place if partitions > 1 else 0, "partitions": partitions, "epochs": EPOCHS}
            tasks = [known | part | {"k": k, "eta": 0.2, "l2": 2e-5, "seed": 1} for k in ks]
            path = Path(folder) / f"{place}.json"
            path.write_text(json.dumps(tasks))
            command = [sys.executable, "-m", "bench.kernel_epochs", str(path)]
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
        found = [float(process.communicate()[0]) for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError("a kernel process failed; see above")
    return max(found)


if __name__ == "__main__":
    main()
