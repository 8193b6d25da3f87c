"""All pairs of entities and candidates at once: logits chunk after chunk of entities.

An FFM goes by the formula of factored.py. Any other model is scored row by row on the same pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ffm_udf.allpairs_kernels import Lookups, finisher
from ffm_udf.factored import Factored, Presence
from ffm_udf.model import FFM
from ffm_udf.pair_features import MISSING, PairFeatures, Sides
from ffm_udf.rows import FieldRows
from ffm_udf.scorer import Scorer

CHUNK = 1 << 18  # pairs multiplied and finished at a time: their logits stay in the second-level cache
ALL_PAIRS, BY_ROW = "all_pairs", "rows"
TABLES = 1 << 27  # float32 that the tables B and D may take
REPEATED = 1 << 23  # float32 that sums of repeated features may take
MOST_FIELDS = 127  # unknown values of a pair are counted in an int8
LARGEST_CHUNK = 1 << 12  # entities at a time, however few candidates: bounds the latent vectors gathered for them


class Grid:
    """All pairs of entities and candidates, whose logits come chunk by chunk of entities.

    X_u int32 [entities, |U|], X_c int32 [candidates, |C|]; unknown int32 [fields]: each field's feature for values the
    model does not know.
    """

    def __init__(
        self, factored: Factored, X_u: np.ndarray, X_c: np.ndarray, pairs: PairFeatures, unknown: np.ndarray
    ) -> None:
        self.factored, self.X_u, self.pairs, self.unknown = factored, X_u, pairs, unknown
        self.candidates = factored.candidates(X_c, pairs.default)
        self.unknown_of_candidates = _unknown(X_c, unknown, factored.sides.candidate)
        self._add_up_repeated()
        self._hold_by_key(pairs)
        self._code_features(pairs)
        self._join_tables()
        self.seen = np.zeros((len(X_c), len(pairs.keys) + 1), np.int32)
        self.finish = finisher()

    def _add_up_repeated(self) -> None:
        """Multiply features that many entities have once with all candidates: per pair that is an addition in place of
        |C| k multiplications. What is left for the matrix multiply are fields such as the entity's own id."""
        self.multiplied, rows, row_of = [], [], []
        free = REPEATED // max(1, len(self.candidates.vectors))
        for field in range(self.X_u.shape[1]):
            ids, place = np.unique(self.X_u[:, field], return_inverse=True)
            if 2 * len(ids) > len(self.X_u) or len(ids) > free:
                self.multiplied.append(field)
                continue
            row_of.append(place + sum(map(len, rows)))
            rows.append(self.factored.repeated(field, ids, self.candidates))
            free -= len(ids)
        candidates, across = len(self.candidates.vectors), len(self.factored.sides.candidate) * self.factored.k
        self.T = np.concatenate([np.zeros((0, candidates), np.float32), *rows])
        self.row_of = np.ascontiguousarray(np.array(row_of, np.int32).reshape(len(row_of), len(self.X_u)).T)
        kept = self.candidates.vectors.reshape(candidates, self.X_u.shape[1], across)[:, self.multiplied]
        self.Q = np.ascontiguousarray(kept.reshape(candidates, len(self.multiplied) * across).T)

    def _hold_by_key(self, pairs: PairFeatures) -> None:
        """Which candidates hold each key, with the keys of all fields in one numbering."""
        first = np.concatenate([[0], np.cumsum(pairs.keys, dtype=np.int64)])
        places = (pairs.of_candidate + first[:-1]).reshape(-1)
        order = np.argsort(places, kind="stable")
        self.first_key, self.start = first[:-1], np.searchsorted(places[order], np.arange(first[-1] + 1))
        self.holder = (order // max(1, len(pairs.keys))).astype(np.int32)

    def _code_features(self, pairs: PairFeatures) -> None:
        """Number the features that occur, the most frequent of a field first (their lookups then lie together); 0 is
        every field's default."""
        self.tables, self.width, codes, self.first_code = [], 1, [], np.zeros(len(pairs.keys), np.int64)
        for p, default in enumerate(pairs.default):
            low, counts = pairs.counts[p]
            ids = np.argsort(-counts, kind="stable")
            ids = ids[(counts[ids] > 0) & (ids != default - low)]
            code_of = np.zeros(len(counts), np.int32)
            code_of[ids] = np.arange(self.width, self.width + len(ids), dtype=np.int32)
            self.first_code[p] = sum(map(len, codes)) - low
            codes.append(code_of)
            self.tables.append(self.factored.table(p, (ids + low).astype(np.int32), pairs.default))
            self.width += len(ids)
        self.code_of = np.concatenate([np.zeros(0, np.int32), *codes])

    def _join_tables(self) -> None:
        """B, D, what of A is the same for every entity, and which codes are unknown values."""
        W, R = self.width, self.factored.quadratic
        self.B = np.zeros((W, len(self.candidates.vectors)), np.float32)
        self.D = np.zeros((W, W), np.float32)
        self.of_A, self.change = np.zeros(W, np.float32), np.zeros(W, np.int8)
        self.spans, first = [], 1
        for p, table in enumerate(self.tables):
            span = slice(first, first + len(table.ids))
            self.B[span] = table.to_candidate @ self.candidates.to_pairs[:, p].T
            self.of_A[span] = table.own
            never = self.unknown[self.factored.sides.pair[p]]
            self.change[span] = (table.ids == never).astype(np.int8) - np.int8(self.pairs.default[p] == never)
            for q, (other, across) in enumerate(zip(self.tables[:p], self.spans, strict=True)):
                terms = R * (other.to_pair[:, p] @ table.to_pair[:, q].T)
                self.D[across, span] = terms
                self.D[span, across] = terms.T
            self.spans.append(span)
            first = span.stop

    def logits(self, first: int, Z: np.ndarray, unknown: np.ndarray) -> None:
        """Fill Z float32 [n, candidates] with the logits of entities first..first + n - 1, and `unknown` int8 of the
        same shape with the number of fields whose value the model does not know."""
        entities = slice(first, first + len(Z))
        X_u = self.X_u[entities]
        side = self.factored.entities(X_u, self.pairs.default, self.multiplied)
        if self.multiplied:
            np.matmul(side.vectors, self.Q, out=Z)
        else:
            Z.fill(0.0)
        own = _unknown(X_u, self.unknown, self.factored.sides.entity) + self._unknown_defaults()
        np.add(own[:, None], self.unknown_of_candidates, out=unknown)
        A = np.empty((len(X_u), self.width), np.float32)
        A[:] = self.of_A
        for p, (table, span) in enumerate(zip(self.tables, self.spans, strict=True)):
            A[:, span] += side.to_pairs[:, p] @ table.to_entity.T
        pairs = self.pairs
        lookups = Lookups(
            self.start, self.holder, self.first_key, pairs.indptr, self.first_code, self.code_of, A, self.B, self.D,
            self.change, self.T, self.row_of[entities])  # fmt: skip
        sides = side.constant, self.candidates.constant
        self.finish(first, *sides, pairs.key, pairs.feature, lookups, self.seen, Z, unknown)

    def _unknown_defaults(self) -> np.int8:
        never = self.unknown[list(self.factored.sides.pair)]
        return np.int8(np.count_nonzero(self.pairs.default == never))


def chunks(
    model: Scorer, sides: Sides, X_u: np.ndarray, X_c: np.ndarray, pairs: PairFeatures, unknown: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """First entity, logits float32 [n, candidates] and number of unknown values int8 [n, candidates] of chunk after
    chunk of entities. The arrays are used again for the next chunk.

    X_u int32 [entities, |U|] and X_c int32 [candidates, |C|]: columns in the order of `sides`; unknown int32 [fields]:
    each field's feature for values the model does not know. Raises ValueError for sizes that do not fit.
    """
    if sides.n_fields > MOST_FIELDS:
        raise ValueError(f"sides must have at most {MOST_FIELDS} fields, got {sides.n_fields}")
    if len(X_u) != pairs.entities or len(X_c) != len(pairs.of_candidate):
        found = f"{pairs.entities} and {len(pairs.of_candidate)}"
        raise ValueError(f"pairs must be of {len(X_u)} entities and {len(X_c)} candidates, got {found}")
    step = min(max(1, CHUNK // max(1, len(X_c))), LARGEST_CHUNK)
    if isinstance(model, FFM) and engine(model, pairs) == ALL_PAIRS:
        return _factored(model, sides, X_u, X_c, pairs, unknown, step)
    return _by_row(model, sides, X_u, X_c, pairs, unknown, step)


def engine(model: Scorer, pairs: PairFeatures) -> str:
    """How `chunks` scores these pairs: ALL_PAIRS; or BY_ROW, if the model cannot be taken apart or the pair fields have
    so many different features that tables of them would not fit."""
    if not isinstance(model, FFM):
        return BY_ROW
    width = pairs.distinct()
    return ALL_PAIRS if width * (width + len(pairs.of_candidate)) <= TABLES else BY_ROW


def _factored(
    model: FFM, sides: Sides, X_u: np.ndarray, X_c: np.ndarray, pairs: PairFeatures, unknown: np.ndarray, step: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    varies = any((ids == MISSING).any() for ids in (X_u, X_c, pairs.feature, pairs.default))
    if varies and model.normalize:
        kinds = [Factored(model, sides, 1.0, 0.0), Factored(model, sides, 0.0, 1.0), Presence(model, sides)]
    else:
        kinds = [Factored(model, sides)]
    grids = [Grid(kind, X_u, X_c, pairs, unknown) for kind in kinds]
    Z = [np.empty((min(step, len(X_u)), len(X_c)), np.float32) for _ in grids]
    counts = np.empty(Z[0].shape, np.int8)
    for first in range(0, len(X_u), step):
        n = min(step, len(X_u) - first)
        found, count = [z[:n] for z in Z], counts[:n]
        for grid, z in zip(grids, found, strict=True):
            grid.logits(first, z, count)
        if len(grids) > 1:
            _sum_by_power(*found, grids[0].factored.constant)
        yield first, found[0], count


def _by_row(
    model: Scorer, sides: Sides, X_u: np.ndarray, X_c: np.ndarray, pairs: PairFeatures, unknown: np.ndarray, step: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    for first in range(0, len(X_u), step):
        n = min(step, len(X_u) - first)
        entity = np.repeat(np.arange(first, first + n), len(X_c))
        X = pairs.rows(sides, X_u, X_c, entity, np.tile(np.arange(len(X_c)), n))
        count = (unknown == X).sum(axis=1).astype(np.int8)
        yield first, _row_logits(model, X).reshape(n, -1), count.reshape(n, -1)


def _row_logits(model: Scorer, X: np.ndarray) -> np.ndarray:
    """Logits of encoded rows, some of which may have no feature in a field."""
    present = X != MISSING
    if present.all() or not isinstance(model, FFM):
        return model.decision_function(X)
    indptr = np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int64)
    return model.decision_function(FieldRows(indptr, np.nonzero(present)[1].astype(np.int32), X[present]))


def _sum_by_power(straight: np.ndarray, twice: np.ndarray, present: np.ndarray, constant: float) -> None:
    """logit = constant + sqrt(R) · linear + R · pairs with the pair's own R, into `straight`."""
    R = 1.0 / np.maximum(present, 1.0)
    twice -= constant
    straight -= constant
    straight *= np.sqrt(R)
    straight += R * twice + np.float32(constant)


def logits(
    model: Scorer, sides: Sides, X_u: np.ndarray, X_c: np.ndarray, pairs: PairFeatures, unknown: np.ndarray
) -> np.ndarray:
    """Logits float32 [entities, candidates]; arguments as in `chunks`."""
    found = np.empty((len(X_u), len(X_c)), np.float32)
    for first, Z, _ in chunks(model, sides, X_u, X_c, pairs, unknown):
        found[first : first + len(Z)] = Z
    return found


def _unknown(X: np.ndarray, unknown: np.ndarray, fields: tuple[int, ...]) -> np.ndarray:
    """Fields of each row whose feature is the one for unknown values, int8 [n]."""
    return (unknown[list(fields)] == X).sum(axis=1).astype(np.int8)
