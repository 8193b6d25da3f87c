"""The all-pairs engine alone, in memory, on all cores at once: beside the row kernel, the BLAS and modern-fm."""

import multiprocessing
import os
import statistics
import time

import numpy as np

from bench.peers import one_hot
from bench.report import Measure
from ffm_udf import allpairs
from ffm_udf.calibration import Calibrator
from ffm_udf.model import FFM
from ffm_udf.pair_features import PairFeatures, Sides
from ffm_udf.ranking import TopPerColumn, top_of_rows

U, C, P, K, VALUES = 11, 7, 6, 8, 200  # fields by side, latent factors, features of a field
ENTITIES, CANDIDATES, REPEATS, TOP = 4000, 1000, 7, 10
DENSITY = 0.2  # share of a household's keys with a history


# Share of the keys with a history, number of pair fields, entity fields whose features are all different.
WORLDS = {"sparse": (DENSITY, P, 1), "dense": (1.0, P, 1), "no pairs": (0.0, 0, 1), "distinct": (0.0, 0, U),
          "distinct pairs": (DENSITY, P, U)}  # fmt: skip


def engine():
    """Measures of the engine alone."""
    rates = {name: both_cores(name) for name in WORLDS}
    speed = {name: found["engine"] / 1e6 for name, found in rates.items()}
    best = rates["distinct"]["multiply"]
    found = [
        Measure.at_least("engine, 11 × 7 × 6 fields", speed["sparse"], "M pairs/s", 20),
        Measure.at_least("engine, every key with a history", speed["dense"], "M pairs/s", 20),
        Measure.at_least("engine, no entity feature twice", speed["distinct pairs"], "M pairs/s", 20),
        Measure.at_least("engine, no pair fields", speed["no pairs"], "M pairs/s", 60),
        Measure.at_least("engine, no pair fields, no entity feature twice", speed["distinct"], "M pairs/s", 60),
        Measure.at_least("matrix multiply in the engine ÷ the BLAS's best", best, "", 0.85),
        Measure.at_least("engine ÷ row kernel", rates["sparse"]["engine"] / rates["sparse"]["rows"], "×", 8),
        Measure(
            "engine ÷ row kernel, every key with a history", rates["dense"]["engine"] / rates["dense"]["rows"], "×"
        ),
    ]
    peer = modern_fm()
    if peer:
        one_core = rates["sparse"]["engine"] / os.cpu_count()
        found.append(Measure.at_least("engine on one core ÷ modern-fm's predict", one_core / peer, "×", 30))
    return found


def both_cores(name):
    """Rates of all cores at once: pairs per second of the engine and of the row kernel, and the multiply's share."""
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        parts = pool.map(in_process, [name] * os.cpu_count(), chunksize=1)
    return {key: sum(part[key] for part in parts) if key != "multiply" else statistics.mean(p[key] for p in parts)
            for key in parts[0]}  # fmt: skip


def in_process(name):
    """The rates of one process on one core."""
    world = EngineWorld(*WORLDS[name])
    found = {"engine": 1 / seconds(world.score, REPEATS) * world.pairs_count}
    X = world.rows(20)
    found["rows"] = len(X) / seconds(lambda: world.model.decision_function(X), REPEATS)
    found["multiply"] = world.multiply_share()
    return found


def seconds(work, repeats):
    """Median seconds of `work`, after one call that is not counted."""
    work()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


class EngineWorld:
    """A model and all pairs of ENTITIES × CANDIDATES in memory."""

    def __init__(self, density, n_pair_fields, distinct):
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)
        rng = np.random.default_rng(3)
        n_fields = U + C + n_pair_fields
        sizes = np.where(np.arange(n_fields) < distinct, ENTITIES, VALUES)
        first = (np.cumsum(sizes) - sizes).astype(np.int32)

        def draw(n, fields):
            found = np.minimum(rng.geometric(0.06, (n, len(fields))), VALUES) - 1 + first[list(fields)]
            return found.astype(np.int32)

        self.sides = Sides(*(tuple(range(*span)) for span in ((0, U), (U, U + C), (U + C, n_fields))))
        X = draw(20_000, range(n_fields))
        self.model = FFM(k=K, epochs=1, patience=None).fit(X, rng.random(len(X)) < 0.05, n_features=int(sizes.sum()))
        self.X_u, self.X_c = draw(ENTITIES, self.sides.entity), draw(CANDIDATES, self.sides.candidate)
        self.X_u[:, :distinct] = np.arange(ENTITIES, dtype=np.int32)[:, None] + first[:distinct]
        self.unknown = first
        keys = (1000, 160, 300, 20, 1000, 160)[:n_pair_fields]
        entries = [np.nonzero(rng.random((ENTITIES, count), np.float32) < density) for count in keys]
        ends = [np.searchsorted(entity, np.arange(ENTITIES + 1)) for entity, _ in entries]
        starts = np.cumsum([0, *(len(entity) for entity, _ in entries)])[:-1] if keys else []
        none = [np.zeros(0, np.int32)]
        self.pairs = PairFeatures(
            (np.arange(CANDIDATES)[:, None] % np.array(keys, np.int32).reshape(1, -1)).astype(np.int32),
            keys,
            np.array([end + start for end, start in zip(ends, starts, strict=True)], np.int64).reshape(
                len(keys), ENTITIES + 1
            ),
            np.concatenate([key for _, key in entries] or none).astype(np.int32),
            np.concatenate(
                [draw(len(e), [f])[:, 0] for (e, _), f in zip(entries, self.sides.pair, strict=True)] or none
            ),
            first[list(self.sides.pair)] + 1,
        )
        self.pairs_count = ENTITIES * CANDIDATES

    def score(self):
        calibrator, top = Calibrator(1.02, -0.1), TopPerColumn(CANDIDATES, TOP)
        self.pairs.__dict__.pop("counts", None)  # what a block computes once
        for at, Z, unknown in allpairs.chunks(self.model, self.sides, self.X_u, self.X_c, self.pairs, self.unknown):
            calibrator.float32(Z)
            top.keep(Z, unknown, at)
            top_of_rows(Z, TOP)

    def rows(self, entities):
        """Pairs of some entities as encoded rows, for the row kernel."""
        entity, candidate = np.divmod(np.arange(entities * CANDIDATES), CANDIDATES)
        return self.pairs.rows(self.sides, self.X_u, self.X_c, entity, candidate)

    def multiply_share(self):
        """Rate of the engine's matrix multiply (its shapes, into an array used again) over that of large squares."""
        rng = np.random.default_rng(1)
        n, d = allpairs.CHUNK // CANDIDATES, U * C * K
        A, B = rng.random((n, d), np.float32), rng.random((CANDIDATES, d), np.float32)
        Z, square = np.empty((n, CANDIDATES), np.float32), rng.random((2048, 2048), np.float32)
        out = np.empty_like(square)
        ours = 2 * n * CANDIDATES * d / seconds(lambda: np.matmul(A, B.T, out=Z), 25)
        return ours / (2 * 2048**3 / seconds(lambda: np.matmul(square, square, out=out), 5))


def modern_fm():
    """Rows per second of modern-fm's predict on some of the engine's pairs, one thread; None where it has no wheel."""
    try:
        from modern_fm import FFMClassifier
    except ImportError:
        return None
    world = EngineWorld(*WORLDS["sparse"])
    X, n_features = world.rows(20), world.model.fitted_weights().layout.n_features
    rows = one_hot(X, n_features)
    fields = np.repeat(np.arange(world.sides.n_fields), np.diff([*world.unknown, n_features]))
    model = FFMClassifier(n_factors=K, optimizer="adagrad", batch_size=1, n_jobs=1, max_iter=1)
    model.fit(rows[:2000], np.arange(2000) % 2, field_ids=fields)
    return len(X) / seconds(lambda: model.predict_proba(rows), 3)
