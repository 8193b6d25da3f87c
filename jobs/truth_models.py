"""Models trained on the early periods of a truth world, and their predictions on its later periods.

The self-test's short form of a night: raw fields, vocabularies from the training rows, FFM by k and seed, a calibrator
on periods of its own, the hierarchical prior as baseline. The later periods are the pool that worlds are drawn from.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ffm_udf import calibration
from ffm_udf.metrics import sigmoid
from ffm_udf.model import FFM
from ffm_udf.prior import HierarchicalPrior
from jobs.fresh_labels import Pool
from jobs.truth_world import WINDOW_DAYS, Rows, TruthWorld, in_window

MIN_COUNT = 10  # a rarer value of the training rows is its field's unknown one
PRIOR = "prior"


@dataclass(frozen=True)
class Setup:
    """What is trained, and on how many periods; those after them are the pool.

    shift_sd: spread of the shift of log-odds that each period drawn has anew, beside the drift of the truth world.
    """

    ks: tuple[int, ...] = (1, 2, 4)
    seeds: tuple[int, ...] = (1,)
    train: int = 14
    valid: int = 2
    calib: int = 4
    epochs: int = 6
    eta: float = 0.1
    shift_sd: float = 0.1


@dataclass(frozen=True)
class Stored:
    """Predictions on the pool: `p` float64 [n] by model, FFM's by (k, seed) and the prior's by PRIOR."""

    rows: Rows
    seen: dict[str, np.ndarray]  # by field: whether the row's value was known when training, bool [n]
    first: np.ndarray  # int64 [periods + 1], the first row of each period
    p: dict[tuple[int, int] | str, np.ndarray]
    shift_sd: float

    def pool(self, sums: Mapping[str, tuple[np.ndarray | float, np.ndarray | float]]) -> Pool:
        """A pool that keeps these sums in their order: what a row has anyway, and what it adds if it converts."""
        n, starts = len(self.rows), self.first[:-1]
        anyway = [np.add.reduceat(np.broadcast_to(np.float64(have), n), starts) for have, _ in sums.values()]
        added = [np.broadcast_to(np.float64(adds), n) for _, adds in sums.values()]
        within = in_window(24.0 * WINDOW_DAYS)[self.rows.columns["category"] % 2]
        return Pool(self.first, self.rows.logit, within, np.stack(anyway, 1), np.stack(added, 1), self.shift_sd)


def stored_predictions(world: TruthWorld, setup: Setup) -> Stored:
    """Train on the world's first periods, calibrate, predict all rows of those after."""
    ends = np.cumsum([0, setup.train, setup.valid, setup.calib])
    if ends[-1] >= world.periods:
        raise ValueError(f"periods must be more than the {ends[-1]} that models learn from, got {world.periods}")
    train, valid, calib, held = (
        slice(world.first_rows[start], world.first_rows[stop])
        for start, stop in itertools.pairwise([*ends, world.periods])
    )
    every = world.take(0, world.rows)
    fields = _fields(every)
    X, unknown, n_features = _encoded(fields, train)
    y = every.delay < 24.0 * WINDOW_DAYS
    found: dict[tuple[int, int] | str, np.ndarray] = {}
    for k, seed in itertools.product(setup.ks, setup.seeds):
        model = FFM(k=k, eta=setup.eta, epochs=setup.epochs, seed=seed)
        model.fit(X[train], y[train], (X[valid], y[valid]), n_features=n_features)
        calibrator = calibration.fit(model.decision_function(X[calib]), y[calib])
        found[k, seed] = calibrator(model.decision_function(X[held]))
    place = {name: number for number, name in enumerate(fields)}
    prior = HierarchicalPrior([place["category"], place["campaign"]], place["user"])
    found[PRIOR] = sigmoid(prior.fit(X[train], y[train], n_features=n_features).decision_function(X[held]))
    return Stored(
        rows=world.take(int(held.start), int(held.stop - held.start)),
        seen={name: X[held, place[name]] != unknown[place[name]] for name in ("user", "campaign")},
        first=world.first_rows[ends[-1] :] - world.first_rows[ends[-1]],
        p=found,
        shift_sd=setup.shift_sd,
    )


def _fields(rows: Rows) -> dict[str, np.ndarray]:
    """The columns as integers, those that are numbers in powers of two."""
    bins = {name: np.log2(1.0 + rows.columns[name]).astype(np.int64) for name in ("discount", "ads_seen")}
    return rows.columns | bins


def _encoded(fields: Mapping[str, np.ndarray], train: slice) -> tuple[np.ndarray, np.ndarray, int]:
    """Feature ids int32 [n, fields], the id of each field's unknown value, and how many ids there are.

    Field after field, its unknown value first. A value is known if it has MIN_COUNT training rows.
    """
    columns, unknown, first = [], [], 0
    for values in fields.values():
        frequent = np.bincount(values[train], minlength=int(values.max()) + 1) >= MIN_COUNT
        columns.append(first + np.where(frequent, np.cumsum(frequent), 0)[values])
        unknown.append(first)
        first += 1 + int(frequent.sum())
    return np.stack(columns, axis=1).astype(np.int32), np.array(unknown), first
