"""Sizes and first values of the weight blocks described at the top of kernels.py."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

LANES = 16  # float32 in one 64-byte line: the chunk that the kernels update at once
DRAWN_AT_ONCE = 1 << 22  # random weights


def padded_width(k):
    """Smallest of 1, 2, 4, 8, 16, 32, 64, 128 that is not below k: few widths, few compilations."""
    return 1 << (k - 1).bit_length()


def round_up(value, multiple):
    return -(-value // multiple) * multiple


def empty_blocks(count, dtype=np.float32):
    """Uninitialised 1-d array of `count` items that starts on a 64-byte line."""
    raw = np.empty(count * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + count * np.dtype(dtype).itemsize].view(dtype)


@dataclass(frozen=True)
class Layout:
    """Where a feature's block lies. `sums` is "vector", "weight", or None for a model that only scores."""

    k: int
    n_fields: int
    n_features: int
    sums: str | None

    @cached_property
    def width(self):
        """Lanes of one latent vector (K)."""
        return padded_width(self.k)

    @cached_property
    def padded_fields(self):
        """Latent vectors in a block (Fp): whole chunks."""
        return round_up(self.n_fields * self.width, max(LANES, self.width)) // self.width

    @cached_property
    def weights_width(self):
        """float32 of all latent vectors of a feature, padding included; the sums begin here."""
        return self.padded_fields * self.width

    @cached_property
    def stride(self):
        """float32 of a whole block."""
        sums = {"vector": self.padded_fields, "weight": self.weights_width, None: 0}[self.sums]
        return round_up(self.weights_width + sums, LANES)

    def initialise(self, blocks, low, high, rng):
        """Fills `blocks`: weights U(low, high) / sqrt(k), sums 1, padding 0. Part by part: no second copy."""
        table = blocks.reshape(self.n_features, self.stride)
        step = max(1, DRAWN_AT_ONCE // (self.n_fields * self.k))
        low, spread = np.float32(low / np.sqrt(self.k)), np.float32((high - low) / np.sqrt(self.k))
        for first in range(0, self.n_features, step):
            part = table[first : first + step]
            part[:, : self.weights_width] = 0.0
            part[:, self.weights_width :] = 1.0
            vectors = part[:, : self.weights_width].reshape(len(part), self.padded_fields, self.width)
            draws = rng.random((len(part), self.n_fields, self.k), dtype=np.float32)
            vectors[:, : self.n_fields, : self.k] = low + spread * draws
