"""`python -m bench.kernel_epochs TASKS.json`: the bare kernel passes of training tasks, in this process, one after the
other. Prints the seconds spent in passes: what no training job on this machine can be faster than.

A task: rows (a RowStore folder), train [first, last], n_features, k, eta, l2, epochs, seed, partition, partitions.
"""

import json
import sys
import time

import numpy as np

from ffm_udf import FFM
from ffm_udf.layout import Layout
from ffm_udf.row_store import RowStore
from ffm_udf.rows import NO_WEIGHT
from ffm_udf.training import compile_for, train_epoch
from ffm_udf.weights import Weights


def passes(task):
    """Seconds of the task's epochs."""
    store = RowStore.open(task["rows"])
    span = store.span(*task["train"])
    X, y = np.asarray(store.X[span]), np.asarray(store.y[span])
    model = FFM(k=task["k"], eta=task["eta"], l2=task["l2"], seed=task["seed"])
    layout = Layout(task["k"], X.shape[1], task["n_features"], model.sums)
    compile_for(layout, X)
    weights, settings = Weights.start(layout, *model._start(), task["seed"]), model._settings()
    mine, seconds = np.arange(task["partition"], len(y), task["partitions"], dtype=np.int32), 0.0
    for epoch in range(1, task["epochs"] + 1):
        order = np.random.default_rng([task["seed"], epoch]).permutation(mine)
        began = time.perf_counter()
        train_epoch(weights, X, y, NO_WEIGHT, order, settings)
        seconds += time.perf_counter() - began
    return seconds


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        tasks = json.load(file)
    for path in {task["rows"] for task in tasks}:  # pages of the rows are in memory before the clock starts
        RowStore.open(path).X.sum()
    print(sum(passes(task) for task in tasks))
