"""One epoch of mixing through Spark on 20M generated rows: memory of all processes together and of the driver."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from bench.report import ROOT, Measure
from ffm_udf.row_store import RowStore, put

ROWS, FIELDS, FEATURES, K, PARTITIONS = 20_000_000, 23, 1_000_000, 8, 2
VALID = 500_000
SEED = 20241121
CHUNK = 1_000_000
FOLDER = ROOT / "build" / "bench" / "big"


def measures():
    """The epoch in a process tree of its own, sampled from outside."""
    store = generated()
    with tempfile.TemporaryDirectory(dir=FOLDER) as work:
        command = [sys.executable, "-m", "bench.big_rows", str(store), work]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        peaks = Peaks(process.pid)
        out = process.communicate()[0]
        peaks.stop()
    if process.returncode:
        raise RuntimeError("the run on generated rows failed; see above")
    before, after, seconds = json.loads(out.splitlines()[-1])
    name = f"mixing of {ROWS / 1e6:.0f}M rows × {FIELDS} fields, {FEATURES / 1e6:.0f}M features, k={K}, one epoch"
    return [
        Measure.at_most(f"{name}: peak memory of all processes (proportional share)", peaks.total / 2**30, "GiB", 6.0),
        Measure.at_most(f"{name}: growth of the Python driver's memory", (after - before) / 2**20, "MiB", 64.0),
        Measure(f"{name}: peak of the JVM, driver and executor in one here", peaks.jvm / 2**20, "MiB"),
        Measure(f"{name}: seconds from the first task to the last", seconds, "s"),
    ]


def generated():
    """The rows' folder, filled on first use: skewed ids, 5 % positive, a validation period of its own."""
    folder = FOLDER / "rows"
    if (folder / "done").exists():
        return folder
    RowStore.create(folder, [f"f{place}" for place in range(FIELDS)], {0: ROWS, 1: VALID})
    rng, share = np.random.default_rng(SEED), FEATURES // FIELDS
    offsets = np.arange(FIELDS, dtype=np.int32) * share
    for first in range(0, ROWS + VALID, CHUNK):
        size = min(CHUNK, ROWS + VALID - first)
        X = (rng.random((size, FIELDS), np.float32) ** 4 * share).astype(np.int32) + offsets
        put(folder, first, X, (rng.random(size, np.float32) < 0.05).astype(np.int8))
    (folder / "done").touch()
    return folder


class Peaks:
    """Samples the proportional memory of a process and all its children."""

    def __init__(self, pid):
        self.pid, self.total, self.jvm, self._stop = pid, 0, 0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.5):
            found = {pid: proportional(pid) for pid in family(self.pid)}
            self.total = max(self.total, sum(found.values()))
            self.jvm = max(self.jvm, sum(size for pid, size in found.items() if name_of(pid) == "java"))

    def stop(self):
        self._stop.set()
        self._thread.join()


def family(pid):
    """The process and its descendants."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
    found, more = {pid}, {pid}
    while more:
        more = {child for child, parent in parents.items() if parent in more} - found
        found |= more
    return found


def name_of(pid):
    """The program's name, empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def proportional(pid):
    """Bytes of the process, pages shared with others counted by their share; 0 if it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def resident():
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(store, work):
    """Mix one epoch; prints the driver's memory before and after, and the seconds."""
    from bench.train import of
    from jobs import mixing
    from jobs.spark_session import session

    spark = session(Path(work), {"spark.driver.memory": "1g"})
    spark.sparkContext.parallelize(range(4), 4).count()
    names = RowStore.open(store).fields
    task = of({}, work, K, "mixing", epochs=1) | {
        **{"algorithm": "ffm", "role": "bench", "candidate_id": None, "rows": str(store), "rows_key": "generated"},
        **{"fields": names, "n_features": FEATURES, "train": [0, 0], "valid": [1, 1], "calib": [1, 1]},
        **{"window": None, "half_life": None, "init": None, "ordered": None, "calibrator": None, "lineage": {}},
    }
    before, began = resident(), time.perf_counter()
    mixing.train(spark, task, Path(work) / "mixing", PARTITIONS, say=lambda text: None)
    print(json.dumps([before, resident(), time.perf_counter() - began]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
