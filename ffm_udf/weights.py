"""The numbers of a model in the layout of kernels.py: blocks, linear weights and bias, each with its AdaGrad sums."""

from dataclasses import dataclass, replace

import numpy as np

from ffm_udf.kernels import Block, dense_scorer
from ffm_udf.layout import Layout, empty_blocks
from ffm_udf.rows import FieldRows
from ffm_udf.sparse_kernels import sparse_scorer

ROWS_AT_ONCE = 1 << 18  # rows looked at together


@dataclass
class Weights:
    """`blocks` 1-d float32 or float16, `linear` float32 [n_features, 1 or 2], `bias` float32 [1, 1 or 2]; the second
    columns, and the sums in the blocks, are there only while `layout.sums` is not None."""

    layout: Layout
    blocks: np.ndarray
    linear: np.ndarray
    bias: np.ndarray

    @classmethod
    def start(cls, layout, low, high, seed):
        """Weights before the first epoch: v ~ U(low, high) / sqrt(k), w = b = 0, all sums 1."""
        blocks = empty_blocks(layout.n_features * layout.stride)
        layout.initialise(blocks, low, high, np.random.default_rng([seed, 0]))
        linear = np.zeros((layout.n_features, 2), np.float32)
        linear[:, 1] = 1.0
        return cls(layout, blocks, linear, np.array([[0.0, 1.0]], np.float32))

    @property
    def table(self):
        """The blocks as [n_features, stride]."""
        return self.blocks.reshape(self.layout.n_features, self.layout.stride)

    @property
    def vectors(self):
        """The latent vectors without padding, as a view [n_features, n_fields, k]."""
        layout = self.layout
        padded = self.table[:, : layout.weights_width].reshape(layout.n_features, layout.padded_fields, layout.width)
        return padded[:, : layout.n_fields, : layout.k]

    @property
    def block(self):
        return Block(self.layout.stride, self.layout.weights_width)

    def copy(self):
        blocks = empty_blocks(len(self.blocks), self.blocks.dtype)
        blocks[:] = self.blocks
        return Weights(self.layout, blocks, self.linear.copy(), self.bias.copy())

    def level_unseen(self, rows, kept, low, high):
        """Gives features that no row of `kept` (row numbers, ascending) has the mean of the first weights: never
        trained, they would score at random."""
        seen = np.zeros(self.layout.n_features, bool)
        for first in range(0, len(kept), ROWS_AT_ONCE):
            part = kept[first : first + ROWS_AT_ONCE]
            if isinstance(rows, FieldRows):
                chosen = np.zeros(int(part[-1]) - int(part[0]) + 1, bool)
                chosen[part - part[0]] = True
                bounds = rows.indptr[part[0] : int(part[-1]) + 2]
                seen[rows.feature[bounds[0] : bounds[-1]][np.repeat(chosen, np.diff(bounds))]] = True
            else:
                seen[rows[part]] = True
        self.vectors[~seen] = (low + high) / 2 / np.sqrt(self.layout.k)

    def copy_from(self, other):
        """Takes the weights, and the sums if there are any, of `other`, which may have fewer features."""
        n, mine, theirs = other.layout.n_features, self.layout, other.layout
        self.table[:n, : mine.weights_width] = other.table[:, : theirs.weights_width]
        self.linear[:n, : other.linear.shape[1]] = other.linear
        self.bias[:, : other.bias.shape[1]] = other.bias
        if theirs.sums is not None:
            self.table[:n, mine.weights_width :] = other.table[:, theirs.weights_width :]

    def renumbered(self, old_ids, fallback, start):
        """New weights whose feature j is feature old_ids[j], sums included. Where that is -1, feature j begins with the
        weights of feature fallback[j], or where that is -1 too with all latent weights at `start`; its sums are new."""
        layout, n = replace(self.layout, n_features=len(old_ids)), len(old_ids)
        source = np.where(old_ids < 0, fallback, old_ids)
        blocks, width = empty_blocks(n * layout.stride, self.blocks.dtype), layout.weights_width
        found = Weights(layout, blocks, np.take(self.linear, source, axis=0, mode="wrap"), self.bias.copy())
        np.take(self.table, source, axis=0, out=found.table, mode="wrap")  # -1 takes any: it is filled below
        found.table[old_ids < 0, width:] = 1.0
        found.linear[old_ids < 0, 1:] = 1.0
        found.table[source < 0, :width] = 0.0
        found.vectors[source < 0] = start
        found.linear[source < 0, 0] = 0.0
        return found

    def scoring(self, dtype=np.float32):
        """Contiguous weights without sums, stored as float32 or float16."""
        layout = replace(self.layout, sums=None)
        blocks = empty_blocks(layout.n_features * layout.stride, dtype)
        blocks.reshape(layout.n_features, layout.stride)[:] = self.table[:, : layout.weights_width]
        return Weights(layout, blocks, self.linear[:, :1].copy(), self.bias[:, :1].copy())

    def constant(self, settings):
        """The term that every logit has, float32: the bias, if the model has one, plus the correction for negative
        downsampling. Whoever computes logits from the weights takes the constant from here: there is no other place."""
        return (self.bias[0, 0] if settings.bias else np.float32(0.0)) + np.float32(settings.offset)

    def logits(self, rows, settings):
        """Logits of checked rows, float32 [n]."""
        bias = np.full((1, 1), self.constant(settings), np.float32)
        settings = settings._replace(bias=True)
        half = self.blocks.dtype == np.float16
        storage = "float16" if half else "float32"
        blocks = self.blocks.view(np.uint16) if half else self.blocks
        logits = np.empty(len(rows), np.float32)
        if isinstance(rows, FieldRows):
            kernel = sparse_scorer(self.layout.width, storage)
            columns = rows.indptr, rows.field, rows.feature, rows.value
            kernel(*columns, settings, self.block, blocks, self.linear, bias, logits)
        else:
            kernel = dense_scorer(self.layout.width, storage)
            offsets = np.zeros(self.layout.n_fields, np.int64)
            kernel(rows, settings, self.block, blocks, self.linear, bias, offsets, logits)
        return logits


def mean_logloss(logits, y):
    """Mean of log(1 + exp(-z)) over positives and log(1 + exp(z)) over negatives, in float64."""
    z = logits.astype(np.float64)
    return float(np.mean(np.logaddexp(0.0, z) - y * z))
