"""What runs inside a task on an executor: read example files, train one model and measure what it cost, score rows.

No Spark here: a task is a plain dictionary, so the same code runs in a test, in a notebook or on a cluster.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import resource
import shutil
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffm_udf import FFM
from ffm_udf.calibration import Calibrator
from ffm_udf.calibration import fit as fit_calibrator
from ffm_udf.prior import HierarchicalPrior

CARD = "card.json"  # written last: a model folder without it is not finished


@dataclass
class Cost:
    """Resources of one piece of work, measured in the process that did it."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_mib: float = 0.0


@contextlib.contextmanager
def measured() -> Generator[Cost]:
    """Fill the yielded Cost when the block ends. The peak is that of the block where the kernel can reset it."""
    cost = Cost()
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    wall, cpu = time.perf_counter(), time.process_time()
    yield cost
    cost.wall_s, cost.cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    cost.peak_rss_mib = _peak_rss_mib()


def _peak_rss_mib() -> float:
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1024 if os.uname().sysname == "Linux" else 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def read_examples(files: Sequence[str], fields: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Feature ids int32 [n, n_fields] and labels int8 [n] of encoded example files, in the files' order."""
    import pyarrow.parquet as pq

    sizes = [pq.ParquetFile(path).metadata.num_rows for path in files]
    X, y, begin = np.empty((sum(sizes), len(fields)), np.int32), np.empty(sum(sizes), np.int8), 0
    columns = [f"f_{name}" for name in fields]
    for path in files:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1 << 18, columns=[*columns, "y"], use_threads=False):
            end = begin + batch.num_rows
            for place, name in enumerate(columns):
                X[begin:end, place] = batch.column(name).to_numpy()
            y[begin:end] = batch.column("y").to_numpy()
            begin = end
    return X, y


def train(task: dict[str, Any]) -> dict[str, Any]:
    """Train the task's model, calibrate it, write its folder and return its card.

    `task`: model_id, algorithm (ffm | prior), folder, fields, n_features, files {train, valid, calib}, hyperparameters,
    role, lineage, and the `calibrator` when it is a refit. A finished, undamaged folder is returned as it is.
    """
    folder = Path(task["folder"])
    if (folder / CARD).exists():
        card = json.loads((folder / CARD).read_text())
        if all((folder / name).is_file() and _sha256(folder / name) == sha for name, sha in card["files"].items()):
            return card
        shutil.rmtree(folder)  # damaged: train it again
    files = task["files"]
    jit_s = warm_up(task)
    with measured() as cost:
        X, y = read_examples(files["train"], task["fields"])
        valid = read_examples(files["valid"], task["fields"]) if files["valid"] else None
        model, curve = _fit(task, X, y, valid)
    if files["calib"]:
        Xc, yc = read_examples(files["calib"], task["fields"])
        calibrator = fit_calibrator(model.decision_function(Xc), yc)
    else:
        calibrator = Calibrator(**task["calibrator"])
    model.save(folder)
    # Without the dot file that a crash just before the last step may have left.
    files_saved = {path.name: _sha256(path) for path in sorted(folder.iterdir()) if not path.name.startswith(".")}
    best = getattr(model, "best_epoch_", 0)
    seconds = sum(entry["seconds"] for entry in curve)
    card = {
        "model_id": task["model_id"],
        "algorithm": task["algorithm"],
        "role": task["role"],
        "fields": list(task["fields"]),
        "calibrator": asdict(calibrator),
        "lineage": task["lineage"],
        "files": files_saved,
        "curve": curve,
        "cost": {
            "n_parameters": int(model.n_parameters_),
            "artifact_bytes": sum((folder / name).stat().st_size for name in files_saved),
            "train_rows": len(y),
            "epochs": len(curve),
            "best_epoch": best,
            "cpu_s": cost.cpu_s,
            "wall_s": cost.wall_s,
            "jit_s": jit_s,
            "peak_rss_mib": cost.peak_rss_mib,
            "bytes_read": sum(os.path.getsize(path) for part in ("train", "valid") for path in files[part]),
            "rows_per_s": len(y) * len(curve) / seconds if seconds else len(y) / max(cost.wall_s, 1e-9),
        },
    }
    temporary = folder / f".{CARD}"
    temporary.write_text(json.dumps(card, indent=1, sort_keys=True))
    temporary.replace(folder / CARD)
    return card


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def warm_up(task: dict[str, Any]) -> float:
    """Fit the task's model on two rows, so that no compilation falls into what is measured; seconds it took."""
    if task["algorithm"] == "prior":
        return 0.0
    began = time.perf_counter()
    X, y = np.zeros((2, len(task["fields"])), np.int32), np.array([0, 1], np.int8)
    FFM(**task["hyperparameters"] | {"epochs": 1}).fit(X, y, eval_set=(X, y), n_features=1)
    return time.perf_counter() - began


def _fit(
    task: dict[str, Any], X: np.ndarray, y: np.ndarray, valid: tuple[np.ndarray, np.ndarray] | None
) -> tuple[FFM | HierarchicalPrior, list[dict[str, Any]]]:
    """The fitted model and its curve per epoch."""
    if task["algorithm"] == "prior":
        prior = HierarchicalPrior(**task["hyperparameters"])
        return prior.fit(X, y, task["n_features"]), []
    model = FFM(**task["hyperparameters"])
    model.fit(X, y, eval_set=valid, n_features=task["n_features"])
    return model, model.history_


class ScoringModel:
    """A finished model folder, memory-mapped: logits and calibrated p of encoded rows.

    Raises OSError if a file is missing and ValueError if its bytes are not those that were written.
    """

    def __init__(self, folder: str) -> None:
        card = json.loads((Path(folder) / CARD).read_text())
        for name, sha256 in card["files"].items():
            if _sha256(Path(folder) / name) != sha256:
                raise ValueError(f"model {folder} is damaged: {name} is not what was written")
        kind = HierarchicalPrior if card["algorithm"] == "prior" else FFM
        self.model, self.model_id, self.fields = kind.load(folder), card["model_id"], card["fields"]
        self.calibrator = Calibrator(**card["calibrator"])

    def score(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Raw logits float32 [n] and calibrated p float64 [n] of X int32 [n, n_fields]."""
        logits = self.model.decision_function(X)
        return logits, self.calibrator(logits)


def fit_calibrators(task: dict[str, Any]) -> dict[int, tuple[float, float]]:
    """Slope and intercept per target period.

    `task`: files of rows with `period_no`, `y` and the logit `column`; `windows` maps a target period to the periods it
    learns from.
    """
    import pyarrow.parquet as pq

    columns = ["period_no", "y", task["column"]]
    parts = [pq.ParquetFile(path).read(columns, use_threads=False) for path in task["files"]]
    period, y, logits = (np.concatenate([part[name].to_numpy() for part in parts]) for name in columns)
    found = {}
    for target, periods in task["windows"].items():
        inside = np.isin(period, periods)
        fitted = fit_calibrator(logits[inside], y[inside])
        found[target] = (fitted.slope, fitted.intercept)
    return found


@functools.lru_cache(maxsize=32)
def opened(folder: str) -> ScoringModel:
    """The model of `folder`, loaded once per Python process however many tasks it serves."""
    return ScoringModel(folder)


def scoring_cost(task: dict[str, Any]) -> list[dict[str, float]]:
    """Score the same block of rows again and again: wall and CPU seconds and peak RSS of each repeat.

    `task`: folder, files, fields, rows (at most), repeats. Compilation and page faults fall into an uncounted first go.
    """
    X = read_examples(task["files"], task["fields"])[0][: task["rows"]]
    model = opened(task["folder"])
    model.score(X)
    results = []
    for repeat in range(1, task["repeats"] + 1):
        with measured() as cost:
            model.score(X)
        results.append({"repeat": repeat, "rows": len(X), **asdict(cost)})
    return results
