"""Self-test of calibration by slice: what is printed about each slice against the known rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs import intervals
from jobs.self_test import inside
from jobs.simulate import SLICED
from jobs.slices import slice_rows
from jobs.truth_models import Stored

PARTS = ("n", "conversions", "sum_p", "sum_logloss", "variance")  # of the sums that slices are made of


@dataclass(frozen=True)
class SliceTruth:
    """A slice's mean p over its mean true rate, the interval printed in one world, and by world, bool [worlds], whether
    there was one and whether it missed."""

    slice: str
    value: str
    n: int  # expected in one world, as conversions
    conversions: int
    truth: float
    lo: float | None
    hi: float | None
    printed: np.ndarray
    missed: np.ndarray


def slice_truths(stored: Stored, p: np.ndarray, worlds: int, n_periods: int, seed: int) -> list[SliceTruth]:
    """Calibration by slice of a model with probabilities `p` [n], in so many worlds. A slice that no world's periods
    have is left out."""
    columns = {name: stored.rows.columns[name] for name in SLICED}
    columns |= {f"{name}_seen": seen.astype(np.int64) for name, seen in stored.seen.items()}
    found = []
    for name, codes in columns.items():
        values = np.unique(codes)
        sums = {}
        for value in values:
            member = (codes == value).astype(np.float64)
            sums |= {f"n {value}": (member, 0.0), f"conversions {value}": (0.0, member)}
            sums |= {f"sum_p {value}": (member * p, 0.0)}
            sums |= {f"sum_logloss {value}": (-member * np.log1p(-p), member * (np.log1p(-p) - np.log(p)))}
            sums |= {f"variance {value}": (member * p * (1.0 - p), 0.0)}
        pool, shape = stored.pool(sums), (len(values), len(PARTS))
        mean = pool.expected().mean(axis=0).reshape(shape)
        drawn = pool.draw(worlds, n_periods, seed).reshape(worlds, n_periods, *shape).transpose(0, 2, 1, 3)
        printed = [_by_value(name, values, world) for world in drawn]
        for value, row in zip(values, mean, strict=True):
            ends = [world.get(str(value), (None, None)) for world in printed]
            truth = row[2] / row[1]
            given = np.array([lo is not None for lo, _ in ends])
            missed = given & np.array([not inside(truth, lo, hi) for lo, hi in ends])
            size = round(n_periods * row[0]), round(n_periods * row[1])
            found.append(SliceTruth(name, str(value), *size, float(truth), *ends[0], given, missed))
    return found


def slice_coverage(truths: Sequence[Sequence[SliceTruth]], level: float = 0.95) -> intervals.Interval:
    """Share of the printed intervals that hold the truth, with its interval over drawn worlds: all slices of one world
    have its periods and labels in common. `truths`: the slices of each truth world, which have the same number of drawn
    worlds; drawn with a seed each, they share nothing."""
    held = [np.sum([row.printed & ~row.missed for row in rows], axis=0) for rows in truths if rows]
    printed = [np.sum([row.printed for row in rows], axis=0) for rows in truths if rows]
    return intervals.ratio(np.concatenate(held), np.concatenate(printed), level)


def _by_value(name: str, values: np.ndarray, world: np.ndarray) -> dict[str, tuple[float | None, float | None]]:
    item = {"name": name, "values": [str(value) for value in values], "sums": list(world)}
    item["entities"] = [0] * len(item["values"])  # nobody asks the self-test for them
    return {
        row["slice_value"]: (row["calibration_ratio_lo"], row["calibration_ratio_hi"])
        for row in slice_rows("model", [item], 0)
    }
