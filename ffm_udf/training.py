"""Epochs of AdaGrad with early stopping."""

import time
import warnings
from dataclasses import dataclass

import numpy as np

from ffm_udf import kernels, sparse_kernels
from ffm_udf.layout import empty_blocks
from ffm_udf.memory import check_memory
from ffm_udf.rows import FieldRows
from ffm_udf.weights import ROWS_AT_ONCE, Weights, mean_logloss

DIVERGED = 4.0  # times the logloss of a constant prediction
DOWNSAMPLING = 1  # names the stream of draws beside those of the first weights and the row orders


@dataclass
class Training:
    """What came out of `train`: the weights of the best epoch, the curve, and on request the weights of the epoch
    before the best one."""

    weights: Weights
    history: list
    best_epoch: int
    before_best: Weights | None
    compile_seconds: float


def kept_rows(y, negative_rate, seed):
    """Numbers of the rows to train on, int32, ascending: all with y = 1, and those with y = 0 at `negative_rate`."""
    if negative_rate == 1.0:
        return np.arange(len(y), dtype=np.int32)
    draw, parts = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(DOWNSAMPLING,))), []
    for begin in range(0, len(y), ROWS_AT_ONCE):
        part = y[begin : begin + ROWS_AT_ONCE]
        keep = (draw.random(len(part)) < negative_rate) | (part == 1)
        parts.append(np.flatnonzero(keep).astype(np.int32) + np.int32(begin))
    return np.concatenate(parts)


def training_bytes(layout, n_rows, copies):
    """Bytes that `train` allocates beside its input: weights with sums, `copies` of them at most, and the order."""
    model = layout.n_features * (layout.stride + 2) * 4
    return model * (1 + copies) + layout.n_features + n_rows * (4 + 4 + 1)


def check_training_memory(layout, n_rows, copies):
    """Raises MemoryError, with what to change, if training does not fit."""
    needed = training_bytes(layout, n_rows, copies)
    size = f"{layout.n_features:,} features x {layout.n_fields} fields x k={layout.k}, {1 + copies} copies"
    remedy = "use a smaller k, a higher min_count, or hash into fewer features"
    check_memory(needed, f"training a model of {size}", remedy)


def train_epoch(weights, rows, y, importance, order, settings):
    """One AdaGrad pass over checked rows in `order` (int32 row numbers); updates `weights` in place.

    Nothing but `weights` goes from one row to the next: passes over the parts of an order, one after the other, are the
    pass over the whole, bit for bit. Returns the mean logloss, weighted by `importance` (float32 [n], or empty for all
    1), of each row before its step.
    """
    layout = weights.layout
    state = weights.blocks, weights.linear, weights.bias
    if isinstance(rows, FieldRows):
        kernel = sparse_kernels.sparse_trainer(layout.width, layout.sums)
        columns = rows.indptr, rows.field, rows.feature, rows.value
        loss, mass = kernel(*columns, y, importance, order, settings, weights.block, *state)
    else:
        kernel = kernels.dense_trainer(layout.width, layout.sums)
        partners = empty_blocks(layout.n_fields * layout.weights_width)
        partners[:] = 0.0
        offsets = np.zeros(layout.n_fields, np.int64)
        loss, mass = kernel(rows, y, importance, order, settings, weights.block, offsets, partners, *state)
    return loss / mass


def compile_for(layout, rows):
    """Compiles or loads the kernels that `train` needs for `rows`; returns the seconds it took."""
    began = time.perf_counter()
    if isinstance(rows, FieldRows):
        sparse_kernels.sparse_trainer(layout.width, layout.sums)
        sparse_kernels.sparse_scorer(layout.width, "float32")
    else:
        kernels.dense_trainer(layout.width, layout.sums)
        kernels.dense_scorer(layout.width, "float32")
    return time.perf_counter() - began


def constant_logloss(y, importance):
    """Logloss of predicting the weighted base rate everywhere; warns if there is one class only."""
    rate = float(np.average(y, weights=importance if len(importance) else None))
    if rate in (0.0, 1.0):
        warnings.warn(f"y has only the class {int(rate)}: the logloss of this fit means nothing", stacklevel=4)
        return np.log(2.0)
    return -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))


def train(weights, rows, y, importance, kept, valid, settings, epochs, patience, seed, keep_before_best):
    """Trains `weights` in place on the rows `kept` for at most `epochs` epochs; see `FFM.fit`.

    `valid` is (rows, y) or None. Raises FloatingPointError if the loss is not finite or far above that of a constant.
    """
    compile_seconds = compile_for(weights.layout, rows)
    if valid is not None:
        compile_seconds += compile_for(weights.layout, valid[0])
    trained = slice(None) if len(kept) == len(y) else kept  # no copy where every row is trained on
    mass = importance[trained] if len(importance) else importance
    limit = DIVERGED * max(constant_logloss(y[trained], mass), np.log(2.0))
    stopping = valid is not None and patience is not None
    history, best_epoch, best_loss, best, before_best = [], 0, np.inf, weights, None
    previous = weights.copy() if keep_before_best else None
    for epoch in range(1, epochs + 1):
        began = time.perf_counter()
        order = np.random.default_rng([seed, epoch]).permutation(kept)
        loss = train_epoch(weights, rows, y, importance, order, settings)
        seconds = time.perf_counter() - began
        valid_loss = None if valid is None else mean_logloss(weights.logits(valid[0], settings), valid[1])
        if not (loss < limit and (valid_loss is None or valid_loss < limit)):
            raise FloatingPointError(
                f"training diverged in epoch {epoch}: train logloss {loss:.4g}, validation {valid_loss}, with "
                f"eta={settings.eta:.4g}; use a smaller eta"
            )
        entry = {"epoch": epoch, "train_logloss": loss, "valid_logloss": valid_loss, "seconds": seconds}
        history.append(entry | {"rows_per_s": len(kept) / seconds})
        snapshot = weights.copy() if keep_before_best else None
        if patience is None or valid_loss is None or valid_loss < best_loss:
            best_epoch, best_loss, before_best = epoch, valid_loss, previous
            best = (snapshot or weights.copy()) if stopping and epoch < epochs else weights
        previous = snapshot
        if stopping and epoch - best_epoch >= patience:
            break
    return Training(best, history, best_epoch, before_best, compile_seconds)
