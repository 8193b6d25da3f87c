"""FFM: fit, predict, explain, save and load. The formula and the memory layout are in kernels.py."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ffm_udf import libffm, storage
from ffm_udf.explain import Explanation, explain
from ffm_udf.kernels import Settings
from ffm_udf.layout import Layout
from ffm_udf.rows import FieldRows, checked_labels, checked_rows, checked_weights, extent
from ffm_udf.training import check_training_memory, kept_rows, train
from ffm_udf.weights import Weights, mean_logloss

LARGEST_HALF = float(np.finfo(np.float16).max)
START_WITH_LINEAR, START_WITHOUT = (0.15, 0.45), (-0.5, 0.5)


@dataclass
class FFM:
    """Field-aware factorization machine, trained with AdaGrad on the logistic loss (Juan et al., RecSys 2016).

    k: latent factors, 1..128. eta: step size. l2: regularisation of the weights that a row touches.
    epochs: passes at most. patience: epochs without a better validation logloss before training stops and keeps the
    best epoch; None trains all epochs and keeps the last.
    linear, bias: add these terms. With both off the model is libffm's, and so is its training with start=(0, 1) and
    sums="weight". normalize: divide by the row's squared norm.
    seed: of the first weights and of the row order of every epoch; same seed, data and machine give the same bits.
    sums: one AdaGrad sum per latent "vector" (smaller, faster, same loss) or per "weight" (libffm's).
    start: (low, high), the first latent weights are U(low, high) / sqrt(k); None takes what measured best on planted
    data, START_WITH_LINEAR or START_WITHOUT.
    keep_before_best: also keep the epoch before the best one, to start the next day from (`before_best`).
    negative_rate: share of the rows with y = 0 that is trained on, in (0, 1]; those with y = 1 all are. Which ones
    follows from the seed. Odds learned this way are 1 / rate too high, so log(rate) is added to every logit, in
    training (valid_logloss) as after it: q = p / (p + (1 - p) / rate), He et al., ADKDD 2014, section 6.3.

    Unknown values: an id is a column of the model. Whoever encodes gives every field an id for values it does not know,
    trained from rare ones; an id without training rows keeps the mean first weights, so nothing scores at random.

    After `fit`: history_ (one dict per epoch: epoch, train_logloss of the rows trained on, uncorrected and before each
    row's own step, valid_logloss, seconds, rows_per_s of the rows trained on), best_epoch_, compile_seconds_ (not part
    of the seconds), n_parameters_, nbytes_.
    """

    k: int = 4
    eta: float = 0.2
    l2: float = 2e-5
    epochs: int = 15
    linear: bool = True
    bias: bool = True
    normalize: bool = True
    patience: int | None = 2
    seed: int = 0
    sums: str = "vector"
    start: tuple[float, float] | None = None
    keep_before_best: bool = False
    negative_rate: float = 1.0

    def __post_init__(self):
        if self.start is not None:
            self.start = tuple(self.start)
        rules = (
            ("k", _is_integer(self.k) and 1 <= self.k <= 128, "an integer in 1..128"),
            ("eta", math.isfinite(self.eta) and self.eta > 0, "positive and finite"),
            ("l2", math.isfinite(self.l2) and self.l2 >= 0, "not negative and finite"),
            ("epochs", _is_integer(self.epochs) and self.epochs >= 1, "an integer of at least 1"),
            ("patience", self.patience is None or (_is_integer(self.patience) and self.patience >= 1), "None or >= 1"),
            ("seed", _is_integer(self.seed) and self.seed >= 0, "an integer of at least 0"),
            ("sums", self.sums in ("vector", "weight"), '"vector" or "weight"'),
            ("negative_rate", 0.0 < self.negative_rate <= 1.0, "in (0, 1]"),
            ("start", self.start is None or _is_range(self.start), "None or two finite numbers, low <= high"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"{name} must be {rule}, got {getattr(self, name)!r}")

    def fit(self, X, y, eval_set=None, sample_weight=None, n_features=None, n_fields=None, init=None):
        """Trains on rows X and labels y; returns self.

        X: int32 [n, n_fields] of feature ids in 0..n_features - 1 (column f is field f), or FieldRows. Memory-mapped
        arrays are read in place. y: 0 or 1, [n]. eval_set: (X, y) for early stopping. sample_weight: [n], multiplies
        each row's loss. n_features, n_fields: sizes of the model, by default what X, eval_set and init need. init: a
        fitted model of the same k, fields and negative_rate to start from, with its sums if it has them; features it
        lacks start new (see `renumbered` where ids have changed).

        Raises ValueError for bad input, MemoryError if the model does not fit, FloatingPointError if training
        diverges; the model is then unchanged. Warns if y has one class only.
        """
        rows = checked_rows(X, "X", n_fields, n_features)
        labels = checked_labels(y, len(rows))
        importance = checked_weights(sample_weight, len(rows))
        valid = None
        if eval_set is not None:
            valid_rows = checked_rows(eval_set[0], "eval_set X", n_fields, n_features)
            valid = valid_rows, checked_labels(eval_set[1], len(valid_rows), "eval_set y")
        layout = self._layout(rows, valid, n_fields, n_features, init)
        stopping = valid is not None and self.patience is not None
        check_training_memory(layout, len(rows), int(stopping) + 2 * int(self.keep_before_best))
        kept = self._kept(labels)
        low, high = self._start()
        weights = Weights.start(layout, low, high, self.seed)
        weights.level_unseen(rows, kept, low, high)
        if init is not None:
            weights.copy_from(init.weights_)
        done = train(weights, rows, labels, importance, kept, valid, self._settings(), self.epochs, self.patience,
                     self.seed, self.keep_before_best)  # fmt: skip
        self.weights_, self.history_, self.best_epoch_ = done.weights, done.history, done.best_epoch
        self.compile_seconds_, self._before_best, self.half_loss_ = done.compile_seconds, done.before_best, None
        return self

    def _kept(self, labels):
        kept, positives = kept_rows(labels, self.negative_rate, self.seed), int(np.count_nonzero(labels))
        if len(kept) == positives < len(labels):
            lost = f"none of {len(labels) - positives} negatives (seed {self.seed})"
            raise ValueError(f"negative_rate={self.negative_rate} keeps {lost}")
        return kept

    def _layout(self, rows, valid, n_fields, n_features, init):
        parts = {"X": rows} if valid is None else {"X": rows, "eval_set X": valid[0]}
        sizes = [extent(part) for part in parts.values()]
        fields, features = n_fields or max(size[0] for size in sizes), max(size[1] for size in sizes) + 1
        if fields < 1 or features < 1:
            raise ValueError("rows must have entries, got only empty ones")
        if init is not None:
            old = init.fitted_weights().layout
            if old.k != self.k or old.sums not in (self.sums, None):
                raise ValueError(f"init must have k={self.k} and sums={self.sums}, got k={old.k} and sums={old.sums}")
            if init.negative_rate != self.negative_rate:
                rates = f"negative_rate={self.negative_rate}, got {init.negative_rate}"
                raise ValueError(f"init must have {rates}: its bias belongs to another share of negatives")
            if fields > old.n_fields or (n_fields or old.n_fields) != old.n_fields:
                raise ValueError(f"init has {old.n_fields} fields, but the rows have {fields}")
            if n_features is not None and n_features < old.n_features:
                raise ValueError(f"n_features must be at least the {old.n_features} of init, got {n_features}")
            fields, features = old.n_fields, max(features, old.n_features)
        for name, part in parts.items():
            checked_rows(part, name, fields)  # dense rows need a column for every field
        return Layout(self.k, fields, n_features or features, self.sums)

    def _start(self):
        return self.start or (START_WITH_LINEAR if self.linear else START_WITHOUT)

    def _settings(self):
        eta, l2, offset = np.float32(self.eta), np.float32(self.l2), np.float32(math.log(self.negative_rate))
        return Settings(eta, l2, int(self.k), bool(self.normalize), bool(self.linear), bool(self.bias), offset)

    def fitted_weights(self):
        """The weights; raises ValueError before `fit`."""
        if not hasattr(self, "weights_"):
            raise ValueError("this FFM is not fitted: call fit or load one")
        return self.weights_

    def _checked(self, X, unseen):
        if unseen not in ("error", "skip"):
            raise ValueError(f'unseen must be "error" or "skip", got {unseen!r}')
        layout = self.fitted_weights().layout
        skip = unseen == "skip" and isinstance(X, FieldRows)
        return checked_rows(X, "X", layout.n_fields, None if skip else layout.n_features)

    def decision_function(self, X, unseen="error"):
        """Logits, float32 [n]. A feature id that the model does not have raises ValueError; with FieldRows and
        unseen="skip" it counts in the norm and nowhere else, as in libffm."""
        rows = self._checked(X, unseen)
        return self.weights_.logits(rows, self._settings())

    def predict_proba(self, X, unseen="error"):
        """P(y = 0) and P(y = 1), float64 [n, 2]; see `decision_function`."""
        logits = self.decision_function(X, unseen)
        p = np.empty((len(logits), 2))
        with np.errstate(over="ignore"):  # exp(-z) may be inf: p is then 0, as it should
            np.divide(1.0, 1.0 + np.exp(-logits.astype(np.float64)), out=p[:, 1])
            np.divide(1.0, 1.0 + np.exp(logits.astype(np.float64)), out=p[:, 0])
        return p

    def explain(self, x) -> Explanation:
        """Constant, linear and field-pair terms of one row (dense [n_fields] or FieldRows of one row); they sum to its
        logit."""
        row = self._checked(x if isinstance(x, FieldRows) else np.atleast_2d(x), "error")
        if len(row) != 1:
            raise ValueError(f"explain takes one row, got {len(row)}")
        return explain(
            self.weights_, row if isinstance(row, FieldRows) else FieldRows.from_dense(row), self._settings()
        )

    def half(self, X=None, y=None):
        """The same model with its latent vectors stored as float16, for scoring (arithmetic stays float32).

        With rows X and labels y the logloss of both is measured on them and goes into model.json. Raises ValueError if
        a weight does not fit float16.
        """
        largest = float(np.abs(self.fitted_weights().vectors).max())
        if not largest <= LARGEST_HALF:
            raise ValueError(f"a weight of {largest} does not fit float16 (at most {LARGEST_HALF})")
        small = self._with(self.weights_.scoring(np.float16))
        if X is not None:
            before, after = self.decision_function(X), small.decision_function(X)
            labels = checked_labels(y, len(before))
            small.half_loss_ = {
                "rows": len(labels),
                "logloss_float32": mean_logloss(before, labels),
                "logloss_float16": mean_logloss(after, labels),
                "largest_logit_change": float(np.abs(before - after).max()),
            }
        return small

    def before_best(self):
        """The model as it was one epoch before the best, sums included: the start for the next day's `fit(init=…)`
        (pre-mature warm start, Juan, Lefortier, Chapelle 2017). Needs keep_before_best=True."""
        if getattr(self, "_before_best", None) is None:
            raise ValueError("the epoch before the best was not kept: fit with keep_before_best=True")
        return self._with(self._before_best)

    def renumbered(self, old_ids, fallback=None):
        """The same model for other feature ids: its feature j is feature old_ids[j] of this one, AdaGrad sums included.

        Vocabularies are made anew every day; a warm start goes through here: `fit(init=yesterday.renumbered(old_ids))`.
        old_ids: integers [features of the new model], -1 for a value that this model does not know. Such a feature
        begins with the weights of feature fallback[j] (integers of the same length: the id for unknown values of its
        field), which is what it would have scored with, and with fresh sums, so that it learns fast; without a
        fallback (None or -1) with the mean of the first weights. Raises ValueError for an id that is not there.
        """
        layout = self.fitted_weights().layout
        ids = _checked_ids(old_ids, "old_ids", layout.n_features)
        other = np.full(len(ids), -1) if fallback is None else _checked_ids(fallback, "fallback", layout.n_features)
        if len(other) != len(ids):
            raise ValueError(f"fallback must have an id for each of the {len(ids)} old_ids, got {len(other)}")
        return self._with(self.weights_.renumbered(ids, other, sum(self._start()) / 2 / math.sqrt(self.k)))

    def _with(self, weights):
        """A fitted model of the same parameters and history with other weights."""
        other = FFM(**asdict(self))
        other.weights_, other.history_, other.best_epoch_ = weights, self.history_, self.best_epoch_
        other.compile_seconds_, other.half_loss_ = self.compile_seconds_, None
        return other

    @property
    def n_parameters_(self):
        """Trained numbers: k for each feature and other field, a linear weight per feature, the bias."""
        layout = self.fitted_weights().layout
        per_feature = (layout.n_fields - 1) * self.k + int(self.linear)
        return layout.n_features * per_feature + int(self.bias)

    @property
    def nbytes_(self):
        """Bytes of the scoring arrays, in memory and (plus .npy headers) on disk: n_features rows of all padded latent
        vectors, one float32 linear weight each, the bias."""
        layout = self.fitted_weights().layout
        return layout.n_features * (layout.weights_width * self.weights_.blocks.dtype.itemsize + 4) + 4

    def save(self, path, state=False):
        """Writes the folder `path` of .npy arrays and model.json, atomically; `state` keeps the AdaGrad sums, so that
        training can go on from it. Returns the number of bytes written."""
        return storage.save(self, path, state)

    @classmethod
    def load(cls, path, verify=True):
        """Opens a folder written by `save`; arrays are memory-mapped. Raises FileNotFoundError if there is none and
        ValueError if it is damaged or of another format version (verify=False skips the checksums of the arrays)."""
        parameters, attributes = storage.load(path, verify)
        model = cls(**parameters)
        for name, value in attributes.items():
            setattr(model, name, value)
        return model

    def to_libffm(self, path):
        """Writes libffm's text model format. Raises ValueError if the model has linear or bias terms, or a correction
        for negative downsampling, which libffm has no place for."""
        if self.linear or self.bias:
            raise ValueError(f"libffm has no linear and no bias terms, got linear={self.linear} and bias={self.bias}")
        if self.negative_rate != 1.0:
            raise ValueError(f"libffm cannot correct for downsampling, got negative_rate={self.negative_rate}, not 1")
        libffm.write_model(self.fitted_weights().vectors, self.normalize, path)

    @classmethod
    def from_libffm(cls, path, **parameters):
        """A model for scoring, or to start from, out of libffm's text model format; `parameters` as for FFM."""
        vectors, normalize = libffm.read_model(path)
        n_features, n_fields, k = vectors.shape
        fixed: dict[str, Any] = {"k": k, "normalize": normalize, "linear": False, "bias": False}
        for name, value in fixed.items():
            if parameters.get(name, value) != value:
                raise ValueError(f"{name} is {value!r} in {path}, got {parameters[name]!r}")
        model = cls(**(parameters | fixed))
        weights = Weights.start(Layout(k, n_fields, n_features, model.sums), 0.0, 0.0, model.seed)
        weights.vectors[:] = vectors
        model.weights_, model.history_, model.best_epoch_ = weights, [], 0
        model.compile_seconds_, model.half_loss_ = 0.0, None
        return model


def _is_integer(value):
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _checked_ids(ids, name, n_features):
    ids = np.asarray(ids)
    if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers of one dimension, got {ids.dtype} {ids.shape}")
    ids = ids.astype(np.int64)
    wrong = (ids < -1) | (ids >= n_features)
    if wrong.any():
        place = int(np.argmax(wrong))
        raise ValueError(f"{name} must be in -1..{n_features - 1}, got {ids[place]} (feature {place})")
    return ids


def _is_range(pair):
    return len(pair) == 2 and all(math.isfinite(bound) for bound in pair) and pair[0] <= pair[1]
