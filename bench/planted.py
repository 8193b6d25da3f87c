"""Planted data: categorical fields with main effects and sparse low-rank effects of field pairs.

Two data sets, the same bytes on every machine: *narrow* (12 fields, 70k features, 500k + 100k rows) and *wide* (39
fields, 727k features, 1M + 200k rows); 5 % positive. The optimum is known: logloss .16271 and .16236; a constant has
.20081 and .20024. Arrays are kept in build/bench/planted/<name>/ and memory-mapped.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent.parent / "build" / "bench" / "planted"
FACTORS = 4  # rank of a planted pair effect
SMALL = 50  # values of the fields that stand for bucketed numbers
LINEAR_SD, PAIRS_SD, POSITIVE = 0.7, 1.2, 0.05


@dataclass(frozen=True)
class Recipe:
    """Rows to train and test on, values of each field before compaction, number of planted pairs, seed."""

    n_train: int
    n_test: int
    cardinalities: tuple[int, ...]
    n_pairs: int
    seed: int


def _geometric(low, high, count):
    return tuple(int(size) for size in np.geomspace(low, high, count))


RECIPES = {
    "narrow": Recipe(500_000, 100_000, (SMALL,) * 3 + _geometric(100, 50_000, 9), 24, 20240602),
    "wide": Recipe(1_000_000, 200_000, (SMALL,) * 13 + _geometric(100, 300_000, 26), 80, 20240601),
}


@dataclass(frozen=True)
class Planted:
    """X_* int32 [n, n_fields] of global feature ids, y_* int8 [n], p_test float32 [n]: the true probabilities."""

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    p_test: np.ndarray
    n_features: int


def planted(name):
    """The data set `name`, generated on first use (seconds for narrow, half a minute for wide)."""
    folder = FOLDER / name
    if not folder.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as staging:
            _write(RECIPES[name], Path(staging))
            os.rename(staging, folder)
            Path(staging).mkdir()  # for the clean-up to find
    arrays = {file.stem: np.load(file, mmap_mode="r") for file in folder.glob("*.npy")}
    return Planted(
        **{part: array for part, array in arrays.items() if part != "n_features"}, n_features=int(arrays["n_features"])
    )


def _write(recipe, folder):
    rng = np.random.default_rng(recipe.seed)
    local = _values(recipe, rng)
    logit = _logit(recipe, local, rng)
    p = 1 / (1 + np.exp(-(logit + _intercept(logit))))
    y = (rng.random(len(p)) < p).astype(np.int8)
    ids, n_features = _global_ids(local, rng)
    train, test = slice(recipe.n_train), slice(recipe.n_train, None)
    np.save(folder / "n_features.npy", n_features)
    np.save(folder / "p_test.npy", p[test].astype(np.float32))
    for part, rows in (("train", train), ("test", test)):
        np.save(folder / f"X_{part}.npy", np.ascontiguousarray(ids[:, rows].T))
        np.save(folder / f"y_{part}.npy", y[rows])


def _values(recipe, rng):
    """Zipf-like values int32 [n_fields, n]; popularity is not the order of the ids."""
    n = recipe.n_train + recipe.n_test
    local = np.empty((len(recipe.cardinalities), n), np.int32)
    for f, size in enumerate(recipe.cardinalities):
        exponent, shift = (0.8, 1.0) if size == SMALL else (rng.uniform(1.0, 1.25), 2.0)
        mass = 1.0 / (np.arange(size) + shift) ** exponent
        rank = np.searchsorted(np.cumsum(mass / mass.sum()), rng.random(n))
        local[f] = rng.permutation(size)[np.minimum(rank, size - 1)]
    return local


def _logit(recipe, local, rng):
    """Main effects plus the planted pair effects, each scaled to its standard deviation."""
    n_fields, n = local.shape
    main, pairs = np.zeros(n), np.zeros(n)
    for f, size in enumerate(recipe.cardinalities):
        main += (rng.normal(0, 1, size) * rng.exponential(0.5))[local[f]]
    every = [(f, g) for f in range(n_fields) for g in range(f + 1, n_fields)]
    sizes = recipe.cardinalities
    # pairs of small fields are preferred: an effect of two huge fields could not be learned from so few rows
    preference = np.array([1 / np.sqrt(float(sizes[f]) * sizes[g]) ** 0.5 for f, g in every])
    for chosen in rng.choice(len(every), recipe.n_pairs, replace=False, p=preference / preference.sum()):
        f, g = every[chosen]
        left = rng.normal(0, 1, (sizes[f], FACTORS)).astype(np.float32)
        right = rng.normal(0, 1, (sizes[g], FACTORS)).astype(np.float32)
        pairs += rng.exponential(1.0) * np.einsum("nk,nk->n", left[local[f]], right[local[g]])
    return main * (LINEAR_SD / main.std()) + pairs * (PAIRS_SD / pairs.std())


def _intercept(logit):
    """The constant that makes POSITIVE of the rows positive on average, by bisection."""
    low, high = -20.0, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        if (1 / (1 + np.exp(-(logit + middle)))).mean() > POSITIVE:
            high = middle
        else:
            low = middle
    return (low + high) / 2


def _global_ids(local, rng):
    """Ids without gaps, field after field, in random order within a field; and their number."""
    ids, first = np.empty_like(local), 0
    for f, column in enumerate(local):
        seen, place = np.unique(column, return_inverse=True)
        ids[f] = rng.permutation(len(seen))[place] + first
        first += len(seen)
    return ids, first
