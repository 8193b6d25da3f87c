"""A tiny RowStore and the training tasks on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from ffm_udf.row_store import RowStore, put

FIELDS = ["category", "family", "household"]
OFFSET, SIZE = [0, 3, 9], 19  # of each field's ids, and the number of ids
FFM_PARAMETERS = {"k": 2, "seed": 3, "eta": 0.1, "l2": 2e-5, "epochs": 4, "patience": 2}
PRIOR_PARAMETERS = {"levels": [0, 1], "entity": 2, "strength": 20.0}
COUNTS = {5: 1000, 6: 700, 7: 300, 8: 400, 9: 250}  # rows by period: two of train, then valid, calib, test
PARTS = {"train": [5, 6], "valid": [7, 7], "calib": [8, 8]}


def draw(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose conversion rate depends on the household and on its category."""
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(0, size, n) for size in (3, 6, 10)], axis=1)
    p = special.expit(-1 + 0.8 * (ids[:, 2] % 3 - 1) * (ids[:, 0] - 1))
    return (ids + OFFSET).astype(np.int32), (rng.random(n) < p).astype(np.int8)


def write_rows(folder: Path) -> RowStore:
    """COUNTS rows per period, drawn with the period's number as seed."""
    RowStore.create(folder, FIELDS, COUNTS)
    first = 0
    for number, n in COUNTS.items():
        put(folder, first, *draw(number, n))
        first += n
    return RowStore.open(folder)


def training_task(folder: Path, algorithm: str = "ffm", **changes: Any) -> dict[str, Any]:
    """A task on the rows of `folder`/rows that writes `folder`/models/<id>."""
    if not (folder / "rows").exists():
        write_rows(folder / "rows")
    model_id = changes.pop("model_id", algorithm)
    task = {
        "model_id": model_id,
        "algorithm": algorithm,
        "role": "candidate",
        "candidate_id": None,
        "folder": str(folder / "models" / model_id),
        "rows": str(folder / "rows"),
        "rows_key": "tiny",
        "fields": FIELDS,
        "n_features": SIZE,
        **PARTS,
        "hyperparameters": FFM_PARAMETERS if algorithm == "ffm" else PRIOR_PARAMETERS,
        "window": None,
        "half_life": None,
        "init": None,
        "ordered": None,
        "strategy": {"way": "sweep", "partitions": 1, "syncs": 1},
        "calibrator": None,
        "level": None,
        "lineage": {},
    }
    return task | changes
