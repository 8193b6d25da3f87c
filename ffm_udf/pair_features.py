"""The features of entity-candidate pairs in the form in which they are few: per side, and sparse per pair."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ffm_udf.allpairs_kernels import expander

MISSING = -1  # of a row that has no feature in a field


@dataclass(frozen=True)
class Sides:
    """Which fields (places in the model's field order) belong to the entity, the candidate, or the pair of them."""

    entity: tuple[int, ...]
    candidate: tuple[int, ...]
    pair: tuple[int, ...]

    def __post_init__(self) -> None:
        found = sorted((*self.entity, *self.candidate, *self.pair))
        if found != list(range(len(found))):
            raise ValueError(f"sides must name every field 0..{len(found) - 1} once, got {found}")

    @property
    def n_fields(self) -> int:
        return len(self.entity) + len(self.candidate) + len(self.pair)


@dataclass(frozen=True)
class PairFeatures:
    """The features of the pair fields of some entities with all candidates, in sparse form.

    Candidate c has in pair field p the key of_candidate[c, p]. Entity u has feature `feature[e]` for key `key[e]` where
    indptr[p, u] <= e < indptr[p, u + 1], and default[p] for every other key of the field.

    of_candidate int32 [candidates, P] in 0..keys[p] - 1; indptr int64 [P, entities + 1]; key, feature int32; default
    int32 [P]. Raises ValueError for shapes or keys against these rules.
    """

    of_candidate: np.ndarray
    keys: tuple[int, ...]
    indptr: np.ndarray
    key: np.ndarray
    feature: np.ndarray
    default: np.ndarray

    def __post_init__(self) -> None:
        shapes = (self.of_candidate.shape[1:], self.indptr.shape[:1], self.default.shape)
        if any(shape != (len(self.keys),) for shape in shapes):
            raise ValueError(f"of_candidate, indptr and default must have {len(self.keys)} pair fields, got {shapes}")
        for p, limit in enumerate(self.keys):
            held = self.key[self.indptr[p, 0] : self.indptr[p, -1]]
            for name, found in (("of_candidate", self.of_candidate[:, p]), ("key", held)):
                if found.size and not (found.min() >= 0 and found.max() < limit):
                    raise ValueError(
                        f"{name} of pair field {p} must be within 0..{limit - 1}, got {found.min()}..{found.max()}"
                    )

            below = np.ones(len(held), bool)
            below[1:] = held[1:] > held[:-1]
            starts = self.indptr[p, :-1] - self.indptr[p, 0]
            below[starts[starts < len(held)]] = True
            if not below.all():
                raise ValueError(
                    f"key of pair field {p} must ascend within an entity, got {held[~below][0]} twice or late"
                )

    @functools.cached_property
    def counts(self) -> list[tuple[int, np.ndarray]]:
        """Per pair field the lowest feature id of the entries, and how often it and each one after it occurs."""
        held = [self.feature[ends[0] : ends[-1]] for ends in self.indptr]
        lowest = [int(found.min()) if len(found) else 0 for found in held]
        return [(low, np.bincount(found - low)) for low, found in zip(lowest, held, strict=True)]

    def distinct(self) -> int:
        """How many different features the pair fields have."""
        return sum(int(np.count_nonzero(counts)) for _, counts in self.counts)

    @property
    def entities(self) -> int:
        return self.indptr.shape[1] - 1

    def rows(
        self, sides: Sides, X_u: np.ndarray, X_c: np.ndarray, entity: np.ndarray, candidate: np.ndarray
    ) -> np.ndarray:
        """Encoded rows int32 [n, fields] of n chosen pairs, for what scores row by row.

        entity and candidate int64 [n]: rows of X_u int32 [entities, |U|] and X_c int32 [candidates, |C|]. Fastest where
        pairs of one entity follow each other.
        """
        found = np.empty((len(entity), sides.n_fields), np.int32)
        found[:, sides.entity] = X_u[entity]
        found[:, sides.candidate] = X_c[candidate]
        if sides.pair:
            looked_up = np.empty((len(entity), len(sides.pair)), np.int32)
            first = np.concatenate([[0], np.cumsum(self.keys, dtype=np.int64)])
            held = np.repeat(self.default, self.keys)
            places = (np.ascontiguousarray(place, np.int64) for place in (entity, candidate))
            expander()(
                *places, self.of_candidate, self.indptr, self.key, self.feature, self.default, first, held,
                looked_up)  # fmt: skip
            found[:, sides.pair] = looked_up
        return found
