"""Speed, memory and accuracy of the FFM core on planted data, one thread. Rates are rows per CPU-second."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from bench.planted import FOLDER, planted
from bench.report import Measure, write
from ffm_udf import FFM
from ffm_udf.rows import NO_WEIGHT
from ffm_udf.training import train_epoch

SEED = 1
REPEATS = 3
RATE_ROWS = {"narrow": 500_000, "wide": 250_000}
TRAIN_BARS = {"narrow": {4: 1.5e6, 8: 1.3e6, 16: 0.95e6}, "wide": {4: 160e3, 8: 125e3, 16: 90e3}}
PREDICT_BARS = {"narrow": {4: 7.5e6, 8: 6e6, 16: 3e6}, "wide": {4: 390e3, 8: 270e3, 16: 185e3}}
PLAIN_BARS = {4: 0.18775, 8: 0.18625, 16: 0.18550}
FULL_BARS = {4: 0.1838, 8: 0.1831, 16: 0.1824}
BIG_ROWS, BIG_FIELDS, BIG_FEATURES, BIG_K = 10_000_000, 23, 1_000_000, 8


def main():
    measures = []
    for name in ("narrow", "wide"):
        for k in (4, 8, 16):
            measures += rates(name, k)
    measures += losses()
    measures += [modern_fm_ratio(), *start_up(), big_fit()]
    notes = (
        "One thread; rates are the median of repeats, in rows per CPU-second, compilation excluded. Data: "
        "bench/planted.py (*narrow*: 12 fields, 70k features; *wide*: 39 fields, 727k features). Bars on rates are for "
        "a machine on which libffm trains 1.0M / 0.68M / 0.40M rows/s (narrow, k = 4 / 8 / 16) and 130k / 85k / 44k "
        "(wide); the ratio to modern-fm holds anywhere. Losses are with seed 1, stopped on the test rows as libffm's "
        "reference losses were."
    )
    write("kernel", "The FFM core", measures, notes)


def cpu_rate(work, rows):
    """Median and spread of rows per CPU-second of `work` over REPEATS calls."""
    found = []
    for repeat in range(REPEATS):
        began = time.process_time()
        work(repeat)
        found.append(rows / (time.process_time() - began))
    return statistics.median(found)


def rates(name, k):
    data, n = planted(name), RATE_ROWS[name]
    X, y = np.ascontiguousarray(data.X_train[:n]), np.ascontiguousarray(data.y_train[:n])
    model = FFM(k=k, linear=False, bias=False, epochs=1, patience=None, seed=SEED).fit(X, y, n_features=data.n_features)
    weights, settings = model.weights_, model._settings()
    orders = [np.random.default_rng(repeat).permutation(np.arange(n, dtype=np.int32)) for repeat in range(REPEATS)]
    trained = cpu_rate(lambda repeat: train_epoch(weights, X, y, NO_WEIGHT, orders[repeat], settings), n)
    scoring, half = weights.scoring(), weights.scoring(np.float16)
    half.logits(X[:10], settings)
    single_rate = cpu_rate(lambda _: scoring.logits(X, settings), n)
    half_rate = cpu_rate(lambda _: half.logits(X, settings), n)
    found = [
        Measure.at_least(f"{name}, k={k}: train", trained, "rows/s", TRAIN_BARS[name][k]),
        Measure.at_least(f"{name}, k={k}: predict", single_rate, "rows/s", PREDICT_BARS[name][k]),
    ]
    if name == "wide":
        ratio = half_rate / single_rate
        return [*found, Measure.at_least(f"{name}, k={k}: predict, half ÷ single precision", ratio, "×", 1.4)]
    return found


def losses():
    data = planted("narrow")
    sets = {"eval_set": (data.X_test, data.y_test), "n_features": data.n_features}
    found = []
    for k in (4, 8, 16):
        plain = FFM(k=k, linear=False, bias=False, patience=1, seed=SEED).fit(data.X_train, data.y_train, **sets)
        full = FFM(k=k, patience=1, seed=SEED).fit(data.X_train, data.y_train, **sets)
        for model, kind, bar in ((plain, "pairs only", PLAIN_BARS[k]), (full, "full model", FULL_BARS[k])):
            loss = min(entry["valid_logloss"] for entry in model.history_)
            found.append(Measure.at_most(f"narrow, k={k}, {kind}: test logloss", loss, f"@ {model.best_epoch_}", bar))
    return found


def modern_fm_ratio(n=150_000):
    """Our rows per CPU-second ÷ those of modern-fm's fit at batch size 1, the same rows, k = 4, one epoch."""
    import scipy.sparse
    from modern_fm import FFMClassifier

    data = planted("narrow")
    X, y = np.ascontiguousarray(data.X_train[:n]), np.ascontiguousarray(data.y_train[:n])
    n_fields = X.shape[1]
    shape = (n, data.n_features)
    one_hot = scipy.sparse.csr_matrix((np.ones(X.size), X.ravel(), np.arange(0, X.size + 1, n_fields)), shape)
    field_of = np.zeros(data.n_features, np.int64)
    field_of[data.X_train.ravel()] = np.tile(np.arange(n_fields), len(data.X_train))
    peer = FFMClassifier(n_factors=4, optimizer="adagrad", learning_rate=0.2, batch_size=1, n_jobs=1, max_iter=1)
    theirs = cpu_rate(lambda _: peer.fit(one_hot, y, field_ids=field_of), n)
    ours = cpu_rate(lambda _: FFM(k=4, epochs=1, patience=None).fit(X, y, n_features=data.n_features), n)
    return Measure.at_least("narrow, k=4: fit ÷ modern-fm's fit (batch size 1)", ours / theirs, "×", 10)


def start_up():
    """CPU-seconds of import, first use of a width and later use of it, each in a fresh process."""
    code = "import time; t = time.process_time(); import ffm_udf; print(time.process_time() - t)"
    kernels = (
        "import time; from ffm_udf.kernels import dense_scorer, dense_trainer; t = time.process_time(); "
        "dense_trainer(4, 'vector'); dense_scorer(4, 'float32'); print(time.process_time() - t)"
    )
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = cache

        def run(text):
            command = [sys.executable, "-c", text]
            return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

        run(code)
        imported, first = statistics.median(run(code) for _ in range(REPEATS)), run(kernels)
        later = statistics.median(run(kernels) for _ in range(REPEATS))
    return [
        Measure.at_most("import ffm_udf", imported, "s", 1.5),
        Measure.at_most("first use of a width: compile train and predict", first, "s", 8.0),
        Measure.at_most("later use of a width, from the cache", later, "s", 0.5),
    ]


def big_fit():
    """Peak resident memory of a fit on memory-mapped rows, their pages included (read from Linux's /proc)."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        rng = np.random.default_rng(SEED)
        path = os.path.join(folder, "X.npy")
        X = np.lib.format.open_memmap(path, "w+", np.int32, (BIG_ROWS, BIG_FIELDS))
        for first in range(0, BIG_ROWS, 1_000_000):
            popular = rng.integers(0, BIG_FEATURES, (1_000_000, BIG_FIELDS)) * rng.random((1_000_000, BIG_FIELDS)) ** 3
            X[first : first + 1_000_000] = popular
        del X
        code = (
            "import sys, numpy as np, ffm_udf\n"
            "X = np.load(sys.argv[1], mmap_mode='r'); y = (np.arange(len(X)) % 20 == 0).astype(np.int8)\n"
            f"ffm_udf.FFM(k={BIG_K}, epochs=1, patience=None).fit(X, y, n_features={BIG_FEATURES})\n"
            "lines = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
            "print(int(lines['VmHWM'].split()[0]) / 1024**2)"
        )
        run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    name = "10M rows × 23 fields, 1M features, k=8: peak memory of fit, data included"
    return Measure.at_most(name, float(run.stdout), "GiB", 4.0)
