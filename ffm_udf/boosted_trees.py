"""Gradient-boosted trees (LightGBM) on the same encoded rows.

What a tree can do with a feature id is said in tree_columns.py. Needs LightGBM (the extra `jobs`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ffm_udf import artifact
from ffm_udf.rows import dense_rows
from ffm_udf.training_rows import TrainingRows, chunks, fitted
from ffm_udf.tree_columns import TreeColumns

KIND = "lightgbm"
PACKED = 100  # a history value is 100 · bucket of the rate + bucket of the evidence

FIXED = {
    "objective": "binary",
    "metric": "binary_logloss",
    "deterministic": True,
    "force_row_wise": True,  # else LightGBM times both ways and takes the faster, not always the same
    "verbosity": -1,
}
# What measured best on validation rows of promo: sets of ids overfit at LightGBM's own cat_smooth and cat_l2 of 10.
PARAMETERS = {
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 1000,
    "feature_fraction": 0.5,
    "cat_smooth": 500.0,
    "cat_l2": 300.0,
}


def ordinals(
    vocabulary: Iterable[tuple[str, str | None, int]], history: Collection[str] = (), log2: Collection[str] = ()
) -> np.ndarray:
    """The numbers behind feature ids, float32 [n_features, 2]: NaN where there is none.

    vocabulary: (field, value as text or None for OOV, feature id) of every feature. history: fields whose value packs
    two buckets, rate and evidence; log2: fields whose value is one bucket. Raises ValueError if a value of these is no
    integer.
    """
    rows = list(vocabulary)
    found = np.full((1 + max(feature for _, _, feature in rows), 2), np.nan, np.float32)
    for name, value, feature in rows:
        if value is None or not (name in history or name in log2):
            continue
        try:
            number = int(value)
        except ValueError:
            raise ValueError(f"values of field {name} must be integers to be ordinal, got {value!r}") from None
        if name in history:
            found[feature] = divmod(number, PACKED)
        else:
            found[feature, 0] = number
    return found


@dataclass
class BoostedTrees:
    """LightGBM on the encoded rows, with early stopping, chosen from a grid on validation rows.

    ordinals: float32 [n_features, 2] (see the function), or the path of such an .npy file; None: no field has numbers.
    categories: fields without numbers and with at most so many ids are categories, those with more are offered as plain
    numbers.
    parameters: of LightGBM, over PARAMETERS. grid: alternatives over these; with an eval_set every one is trained and
    the best on it is kept, so len(grid) is the tuning budget; without one the first is used.
    rounds: trees at most. patience: trees without a better validation logloss that end it. seed, threads: LightGBM's;
    the same seed, data and machine give the same trees.

    After `fit`: booster_, text_ (LightGBM's model text), best_epoch_ (trees kept), history_ (one dict per tree, as
    `FFM` has per epoch; train_logloss is None: it would take as long as the tree), trials_ (one dict per
    alternative: its parameters, valid_logloss, trees, seconds).
    """

    ordinals: np.ndarray | str | Path | None = None
    categories: int = 1 << 31
    parameters: Mapping[str, Any] = field(default_factory=dict)
    grid: Sequence[Mapping[str, Any]] = ({},)
    rounds: int = 2000
    patience: int = 60
    seed: int = 0
    threads: int = 1

    def __post_init__(self):
        fixed = {name for chosen in (self.parameters, *self.grid) for name in chosen} & (
            FIXED.keys() | {"seed", "num_threads"}
        )
        rules = (
            ("grid", len(self.grid) > 0, "one alternative at least"),
            ("rounds", self.rounds >= 1, "at least 1"),
            ("patience", self.patience >= 1, "at least 1"),
            ("seed", self.seed >= 0, "at least 0"),
            ("threads", self.threads >= 1, "at least 1"),
            ("categories", self.categories >= 0, "at least 0"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"{name} must be {rule}, got {getattr(self, name)!r}")
        if fixed:
            raise ValueError(f"parameters and grid must not set {', '.join(sorted(fixed))}: the model does")

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        eval_set: tuple[np.ndarray, np.ndarray] | None = None,
        sample_weight: np.ndarray | None = None,
        n_features: int | None = None,
    ) -> BoostedTrees:
        """X int32 [n, n_fields] of feature ids, y 0/1 [n]; returns self. Allocates 4 bytes per row and column that
        LightGBM sees, while its own bins are made. Without eval_set all rounds are trained.

        Raises ValueError for bad input, MemoryError if the columns do not fit.
        """
        rows = TrainingRows.checked(X, y, eval_set, sample_weight, n_features)
        columns = TreeColumns.of(rows, self._numbers(), self.categories)
        matrix = columns.matrix(rows.X)
        valid = (columns.matrix(rows.valid[0]), rows.valid[1]) if rows.valid else None
        trials: list[dict[str, Any]] = []
        best = math.inf
        for chosen in self.grid if valid else self.grid[:1]:
            began = time.perf_counter()
            text, history, trees = self._train(chosen, matrix, rows, valid, columns)
            loss, seconds = history[trees - 1]["valid_logloss"], time.perf_counter() - began
            trials.append({"parameters": dict(chosen), "valid_logloss": loss, "trees": trees, "seconds": seconds})
            if loss is None or loss < best:
                best = math.inf if loss is None else loss
                self.text_, self.history_, self.best_epoch_ = text, history, trees
        self.columns_, self.trials_, self._booster = columns, trials, None
        return self

    def _numbers(self) -> np.ndarray | None:
        if not isinstance(self.ordinals, str | Path):
            return self.ordinals
        return np.load(self.ordinals, allow_pickle=False)

    def _train(self, chosen, matrix, rows, valid, columns):
        """(model text, curve, number of trees kept) of one alternative."""
        import lightgbm

        parameters = {**PARAMETERS, **self.parameters, **chosen, **FIXED}
        parameters |= {"seed": self.seed, "num_threads": self.threads}
        train = lightgbm.Dataset(
            matrix, rows.y, weight=rows.sample_weight, params=parameters, categorical_feature=columns.categorical
        )
        valid_sets, callbacks = [], [_curve_into(history := [], len(rows.y))]
        if valid:
            valid_sets.append(train.create_valid(*valid))
            callbacks.append(lightgbm.early_stopping(self.patience, verbose=False))
        booster = lightgbm.train(parameters, train, self.rounds, valid_sets, callbacks=callbacks)
        trees = booster.best_iteration if valid else booster.current_iteration()
        return booster.model_to_string(num_iteration=trees), history, trees

    @property
    def booster_(self):
        """The trees, as LightGBM holds them."""
        if fitted(self, "text_") and self._booster is None:
            import lightgbm

            self._booster = lightgbm.Booster(model_str=self.text_)
        return self._booster

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Logits, float32 [n]. Raises ValueError for rows that do not fit the model."""
        booster, columns = self.booster_, self.columns_
        X = dense_rows(X, "X", columns.n_fields, columns.n_features)
        logits = np.empty(len(X), np.float32)
        for part in chunks(len(X)):
            logits[part] = booster.predict(columns.matrix(X[part]), raw_score=True, num_threads=self.threads)
        return logits

    @property
    def n_parameters_(self) -> int:
        """Trained numbers: the value of every leaf, and of every split its column and its threshold, or the words of
        its set of categories."""
        counts = dict.fromkeys(("leaf_value", "split_feature", "threshold", "cat_threshold"), 0)
        for line in fitted(self, "text_").splitlines():
            name, _, values = line.partition("=")
            if name in counts:
                counts[name] += len(values.split())
        return sum(counts.values())

    @property
    def nbytes_(self) -> int:
        """Bytes of the model text and of the table of numbers."""
        return len(fitted(self, "text_").encode()) + self.columns_.ordinals.nbytes

    def save(self, path: Path | str) -> int:
        """Write lightgbm.json, the trees as LightGBM's text and the table of numbers into the folder `path`; returns
        their bytes."""
        text, parameters = fitted(self, "text_"), asdict(self)
        parameters.pop("ordinals")
        header = {
            "parameters": parameters,
            "columns": self.columns_.columns,
            "n_fields": self.columns_.n_fields,
            "history": self.history_,
            "best_epoch": self.best_epoch_,
            "trials": self.trials_,
        }
        return artifact.save(path, KIND, header, {"ordinals": self.columns_.ordinals}, {"trees": text})

    @classmethod
    def load(cls, path: Path | str) -> BoostedTrees:
        """The model in the folder `path`. Raises FileNotFoundError if there is none and ValueError if it is damaged or
        of another format version."""
        header, parts = artifact.load(path, KIND)
        model = cls(ordinals=parts["ordinals"], **header["parameters"])
        model.columns_ = TreeColumns(parts["ordinals"], header["n_fields"], [tuple(c) for c in header["columns"]])
        model.text_, model._booster, model.trials_ = parts["trees"], None, header["trials"]
        model.history_, model.best_epoch_ = header["history"], header["best_epoch"]
        return model


def _curve_into(history: list[dict[str, Any]], n_rows: int) -> Any:
    """A LightGBM callback that appends one entry per tree to `history`."""
    last = time.perf_counter()

    def note(environment: Any) -> None:
        nonlocal last
        now = time.perf_counter()
        loss = float(environment.evaluation_result_list[0][2]) if environment.evaluation_result_list else None
        entry = {"epoch": environment.iteration + 1, "train_logloss": None, "valid_logloss": loss}
        history.append(entry | {"seconds": now - last, "rows_per_s": n_rows / (now - last)})
        last = now

    return note
