"""A world of known truth for the model audits: rows, judged rows and predictions on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffm_udf import judged_rows, predictions
from ffm_udf.judged_rows import JudgedRows
from ffm_udf.row_store import RowStore, put

SPLITS = {"valid": (10, 11), "calib": (12, 13), "test": (14, 17)}
FIRST, LAST = 5, 17  # periods; 5 to 9 are for training
PER_PERIOD = 400
N_FEATURES = 200
TIERS = ("a", "b", "c")


@dataclass(frozen=True)
class World:
    """Fields f0 (40 entities), f1 (12 candidates) and two of noise; `logits` [2, n]: the truth with little and with
    more noise; `task`: folders as `ffm_udf.predictions.opened` takes them; `training`: [first, stop) rows."""

    rows: JudgedRows
    logits: np.ndarray
    task: dict[str, Any]
    training: list[int]


def write(folder: Path, seed: int = 0) -> World:
    """A random world. The slice `tier` is the entity's number modulo 3."""
    rng = np.random.default_rng(seed)
    counts = {number: PER_PERIOD + number for number in range(FIRST, LAST + 1)}
    total = sum(counts.values())
    entity, candidate = rng.integers(0, 40, total), rng.integers(0, 12, total)
    truth = rng.normal(-1.5, 0.8, 40)[entity] + rng.normal(0, 0.6, 12)[candidate] + rng.normal(0, 0.3, total)
    y = (rng.random(total) < 1 / (1 + np.exp(-truth))).astype(np.int8)
    X = np.column_stack([entity, 40 + candidate, 52 + rng.integers(0, 8, total), 60 + rng.integers(0, 8, total)])
    RowStore.create(folder / "rows", ["f0", "f1", "f2", "f3"], counts)
    put(folder / "rows", 0, X.astype(np.int32), y)
    first = sum(n for number, n in counts.items() if number < SPLITS["valid"][0])
    ends = np.cumsum([n for number, n in counts.items() if number >= SPLITS["valid"][0]]).tolist()
    periods = {number: (end - counts[number], end) for number, end in zip(range(10, LAST + 1), ends, strict=True)}
    JudgedRows.create(folder / "judged", "../rows", first, periods, SPLITS, {"tier": TIERS})
    here = slice(first, total)
    judged = {
        "y": y[here],
        "entity": entity[here].astype(np.uint64),
        "candidate": candidate[here].astype(np.uint64),
        "tie": rng.integers(0, 2**63, total - first).astype(np.uint64),
        "value": np.zeros(total - first),
        "slices": (entity[here] % len(TIERS)).astype(np.int32)[:, None],
    }
    judged_rows.put(folder / "judged", 0, judged)
    logits = np.stack([truth[here] + rng.normal(0, noise, total - first) for noise in (0.2, 0.5)]).astype(np.float32)
    (folder / "logits").mkdir()
    for place, z in enumerate(logits):
        np.save(predictions.logits_file(folder / "logits", place), z)
    identity = {number: {"slope": 1.0, "intercept": 0.0} for number in range(SPLITS["test"][0], LAST + 2)}
    (folder / "predictions").mkdir()
    predictions.write(folder / "predictions", "../logits", [identity] * len(logits))
    task = {"judged": str(folder / "judged"), "predictions": str(folder / "predictions")}
    return World(JudgedRows.open(folder / "judged"), logits, task, [0, first])
