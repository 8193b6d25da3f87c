"""An FFM taken apart by sides, so that the logits of all pairs are a matrix multiply plus table lookups.

A pair's fields are split by whom their feature depends on: the entity (fields U), the candidate (C), or both (P). Most
pairs have the default feature d_p in a pair field p (no history of each other); delta_x = v_x - v_{d_p} is what another
feature x changes. With R = 1 / number of fields (instance normalisation; kernels.py has the logit row by row)

    logit(u, c) = s_u + s_c + <P_u, Q_c> + sum_p (A[u, x_p] + B[c, x_p]) + sum_{p < q} D[x_p, x_q]

    P_u = (v_{u_f, g}), Q_c = R (v_{c_g, f})  for f in U, g in C: |U| |C| k numbers each
    s_u = sqrt(R) sum_f w_{u_f} + R sum_{f < h in U} <v_{u_f, h}, v_{u_h, f}> + R sum_p sum_f <v_{u_f, p}, v_{d_p, f}>
    s_c likewise; s_u also has the constant, which is the model's own and that of the defaults among each other:
          sqrt(R) sum_p w_{d_p} + R sum_{p < q} <v_{d_p, q}, v_{d_q, p}>
    A[u, x] = R sum_{f in U} <v_{u_f, p}, delta_{x, f}> + sqrt(R) (w_x - w_{d_p}) + R sum_{q} <delta_{x, q}, v_{d_q, p}>
    B[x, c] = R sum_{g in C} <v_{c_g, p}, delta_{x, g}>
    D[x, y] = R <delta_{x, q}, delta_{y, p}>

which is the sum of the row kernel in another order: equal to it but for float32 rounding. A, B and D are zero for
defaults, so a pair costs lookups for its other features only.

A feature id of -1 says that the row has no feature in that field. R then differs from pair to pair, and the sum is
taken apart by its power of R (allpairs.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffm_udf.allpairs_kernels import Places, gatherer
from ffm_udf.model import FFM
from ffm_udf.pair_features import MISSING, Sides


@dataclass(frozen=True)
class Side:
    """What the formula at the top needs of n entities, or of n candidates.

    vectors float32 [n, d]: P_u or Q_c (Q_c has R in it). constant float32 [n]: s_u or s_c. to_pairs float32 [n, P, own
    fields · k]: v_{u_f, p}, times R.
    """

    vectors: np.ndarray
    constant: np.ndarray
    to_pairs: np.ndarray


@dataclass(frozen=True)
class PairTable:
    """The features `ids` int32 [n] of one pair field that occur, without its default.

    own float32 [n]: what of A[u, x] does not depend on u. to_entity [n, |U| k], to_candidate [n, |C| k] and to_pair [n,
    P, k] float32: delta_x.
    """

    ids: np.ndarray
    own: np.ndarray
    to_entity: np.ndarray
    to_candidate: np.ndarray
    to_pair: np.ndarray


class Factored:
    """An FFM taken apart by sides.

    `linear` and `quadratic`: factors of the linear and of the pair terms; by default sqrt(R) and R of rows that have a
    feature in every field.
    """

    def __init__(self, model: FFM, sides: Sides, linear: float | None = None, quadratic: float | None = None) -> None:
        weights, settings = model.fitted_weights(), model._settings()
        if sides.n_fields != weights.layout.n_fields:
            raise ValueError(f"sides must name the model's {weights.layout.n_fields} fields, got {sides.n_fields}")
        scale = 1.0 / sides.n_fields if settings.normalize else 1.0
        self.sides, self.k, self.constant = sides, weights.layout.k, float(weights.constant(settings))
        self.quadratic = np.float32(scale if quadratic is None else quadratic)
        self.linear = np.float32((math.sqrt(scale) if linear is None else linear) * settings.linear)
        # The kernels read float32: a model stored as float16 is widened once.
        self._vectors, self._weights = weights.vectors.astype(np.float32, copy=False), weights.linear[:, 0]

    def entities(self, X: np.ndarray, default: np.ndarray, multiplied: Sequence[int] | None = None) -> Side:
        """`Side` of entities with features X int32 [n, |U|]; default int32 [P].

        multiplied: which of the entity fields (places among them, ascending) P_u holds; None: all.
        """
        fields, across = range(len(self.sides.entity)), len(self.sides.candidate) * self.k
        kept = list(fields if multiplied is None else multiplied)
        at = [kept.index(field) * across if field in kept else -1 for field in fields]
        places = Places(*self._fields(self.sides.entity, self.sides.candidate), np.array(at, np.int64), self.k)
        found = self._side(X, places, default, len(kept) * across, np.float32(1.0))
        found.constant[:] += np.float32(self.constant + self._of_defaults(default))
        return found

    def candidates(self, X: np.ndarray, default: np.ndarray) -> Side:
        """`Side` of candidates with features X int32 [n, |C|]; the part of Q_c for entity field i begins at i |C| k."""
        n, across = len(self.sides.candidate), len(self.sides.candidate) * self.k
        at = np.arange(n, dtype=np.int64) * self.k
        places = Places(*self._fields(self.sides.candidate, self.sides.entity), at, across)
        return self._side(X, places, default, len(self.sides.entity) * across, self.quadratic)

    def repeated(self, field: int, ids: np.ndarray, candidates: Side) -> np.ndarray:
        """What features `ids` of entity field number `field` add to <P_u, Q_c> for every candidate, float32 [n,
        candidates]."""
        across = len(self.sides.candidate) * self.k
        own = self._latent(ids)[:, list(self.sides.candidate)].reshape(len(ids), across)
        return own @ candidates.vectors[:, field * across : (field + 1) * across].T

    def table(self, place: int, ids: np.ndarray, default: np.ndarray) -> PairTable:
        """`PairTable` of features `ids` of pair field number `place`."""
        U, C, P = (list(fields) for fields in (self.sides.entity, self.sides.candidate, self.sides.pair))
        field, n = P[place], len(ids)
        delta = self._latent(ids) - self._latent(default[place : place + 1])
        own = self.linear * (self._straight(ids) - self._straight(default[place : place + 1]))
        against = self._latent(default)[:, field]  # v_{d_q, p} [P, k]
        against[place] = 0.0  # a field does not meet itself
        own = own + self.quadratic * np.einsum("npk,pk->n", delta[:, P], against)
        to_entity, to_candidate = (delta[:, side].reshape(n, len(side) * self.k) for side in (U, C))
        return PairTable(ids, own.astype(np.float32), to_entity, to_candidate, delta[:, P])

    def _fields(self, own: tuple[int, ...], other: tuple[int, ...]) -> list[np.ndarray]:
        return [np.array(fields, np.int64) for fields in (own, other, self.sides.pair)]

    def _side(self, X: np.ndarray, places: Places, default: np.ndarray, width: int, scale: np.float32) -> Side:
        n, own = len(X), len(places.own)
        against = np.ascontiguousarray(self._latent(default)[:, places.own])
        vectors, constant = np.empty((n, width), np.float32), np.empty(n, np.float32)
        to_pairs = np.empty((n, len(places.pair), own * self.k), np.float32)
        factors = self.linear, self.quadratic, scale
        gatherer()(X, self._vectors, self._weights, places, against, *factors, vectors, constant, to_pairs)
        return Side(vectors, constant, to_pairs)

    def _of_defaults(self, default: np.ndarray) -> float:
        among = self._latent(default)[:, list(self.sides.pair)]
        twice = np.einsum("ijk,jik->", among, among) - np.einsum("iik,iik->", among, among)
        return float(self.linear * self._straight(default).sum() + self.quadratic / 2 * twice)

    def _latent(self, ids: np.ndarray) -> np.ndarray:
        """Latent vectors float32 [n, fields, k]; zero where the id is MISSING."""
        found = self._vectors[np.maximum(ids, 0)]
        found[ids == MISSING] = 0.0
        return found

    def _straight(self, ids: np.ndarray) -> np.ndarray:
        return np.where(ids == MISSING, np.float32(0.0), self._weights[np.maximum(ids, 0)])


class Presence(Factored):
    """Counts the features a pair has, by the same sums: every feature weighs one, nothing meets."""

    def __init__(self, model: FFM, sides: Sides) -> None:
        super().__init__(model, sides, 1.0, 0.0)
        self._weights, self.linear, self.constant = np.ones_like(self._weights), np.float32(1.0), 0.0
