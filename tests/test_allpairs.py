"""All pairs at once against the row kernel, on any assignment of fields to sides."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffm_udf import allpairs
from ffm_udf.allpairs import chunks, logits
from ffm_udf.model import FFM
from ffm_udf.pair_features import MISSING, PairFeatures, Sides
from ffm_udf.prior import HierarchicalPrior
from ffm_udf.rows import FieldRows

VALUES = 6  # features of a field; the first is the one for unknown values


class World:
    """A trained model and pairs of `entities` x `candidates`; features of field f are f * VALUES + 0..5."""

    def __init__(self, sides, seed, entities=9, candidates=7, k=3, density=0.4, missing=0.0, model=None, **options):
        rng = np.random.default_rng(seed)
        self.sides, n = Sides(*sides), sum(map(len, sides))
        self.first = (np.arange(n) * VALUES).astype(np.int32)
        X = (rng.integers(0, VALUES, (300, n)) + self.first).astype(np.int32)
        kind = model or FFM(k=k, epochs=2, patience=None, seed=seed, eta=0.5, **options)
        self.model = kind.fit(X, rng.integers(0, 2, 300), n_features=n * VALUES)
        self.X_u, self.X_c = (self._features(rng, m, f) for m, f in ((entities, sides[0]), (candidates, sides[1])))
        self.pairs = self._pairs(rng, entities, candidates, density)
        if missing:
            for ids in (self.X_u, self.X_c, self.pairs.feature):
                ids[rng.random(ids.shape) < missing] = MISSING

    def _features(self, rng, rows, fields):
        return (rng.integers(0, VALUES, (rows, len(fields))) + self.first[list(fields)]).astype(np.int32)

    def _pairs(self, rng, entities, candidates, density):
        keys = tuple(int(rng.integers(1, candidates + 2)) for _ in self.sides.pair)
        of_candidate = np.column_stack([rng.integers(0, n, candidates) for n in keys] or [np.zeros((candidates, 0))])
        held = [rng.random((entities, n)) < density for n in keys]
        ends = [np.cumsum(table.sum(axis=1)) for table in held]
        starts = np.concatenate([[0], np.cumsum([end[-1] for end in ends])])[:-1] if ends else []
        indptr = [np.concatenate([[0], end]) + start for start, end in zip(starts, ends, strict=True)]
        key = np.concatenate([np.nonzero(table)[1] for table in held] or [np.zeros(0)]).astype(np.int32)
        fields = np.repeat(list(self.sides.pair), [table.sum() for table in held]) if held else np.zeros(0, int)
        feature = (rng.integers(0, VALUES, len(key)) + self.first[fields]).astype(np.int32)
        default = self.first[list(self.sides.pair)] + rng.integers(0, VALUES, len(keys)).astype(np.int32)
        pointers = np.array(indptr, np.int64).reshape(len(keys), entities + 1)
        return PairFeatures(of_candidate.astype(np.int32), keys, pointers, key, feature, default.astype(np.int32))

    def rows(self):
        """Every pair as an encoded row, written out pair by pair."""
        found = np.empty((len(self.X_u), len(self.X_c), self.sides.n_fields), np.int32)
        for u in range(len(self.X_u)):
            for c in range(len(self.X_c)):
                found[u, c, list(self.sides.entity)] = self.X_u[u]
                found[u, c, list(self.sides.candidate)] = self.X_c[c]
                for p, field in enumerate(self.sides.pair):
                    entries = range(self.pairs.indptr[p, u], self.pairs.indptr[p, u + 1])
                    held = {int(self.pairs.key[e]): self.pairs.feature[e] for e in entries}
                    found[u, c, field] = held.get(int(self.pairs.of_candidate[c, p]), self.pairs.default[p])
        return found

    def by_row(self):
        """The row kernel's logits of the same pairs."""
        rows = self.rows().reshape(-1, self.sides.n_fields)
        present = rows != MISSING
        if present.all():
            return self.model.decision_function(rows)
        indptr = np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int64)
        field = np.nonzero(present)[1].astype(np.int32)
        return self.model.decision_function(FieldRows(indptr, field, rows[present]))

    def arguments(self):
        return self.model, self.sides, self.X_u, self.X_c, self.pairs, self.first


@st.composite
def assignments(draw):
    fields = draw(st.permutations(range(draw(st.integers(1, 7)))))
    cuts = sorted(draw(st.lists(st.integers(0, len(fields)), min_size=2, max_size=2)))
    return tuple(fields[: cuts[0]]), tuple(fields[cuts[0] : cuts[1]]), tuple(fields[cuts[1] :])


@settings(max_examples=60, deadline=None)
@given(
    assignments(),
    st.integers(0, 2**31),
    st.sampled_from([1, 2, 3, 4, 8, 17]),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.0, 0.0, 0.3]),
    st.booleans(),
    st.booleans(),
)
def test_equals_the_row_kernel(sides, seed, k, density, missing, normalize, linear):
    world = World(
        sides, seed % 1000, k=k, density=density, missing=missing, normalize=normalize, linear=linear, bias=linear
    )
    found = logits(*world.arguments())
    np.testing.assert_allclose(found.reshape(-1), world.by_row(), rtol=1e-5, atol=1e-5)


def test_negative_downsampling_reaches_the_constant():
    """log(0.25) = -1.386 is part of every logit of a model that saw a quarter of the negatives."""
    world = World(((0, 1), (2,), (3,)), 5, negative_rate=0.25)
    np.testing.assert_allclose(logits(*world.arguments()).reshape(-1), world.by_row(), atol=1e-5)


def test_float16_weights():
    world = World(((0,), (1, 2), (3,)), 6, k=4)
    world.model = world.model.half()
    np.testing.assert_allclose(logits(*world.arguments()).reshape(-1), world.by_row(), atol=1e-5)


@pytest.mark.parametrize("candidates", [1, 500])
def test_chunks_cover_all_entities_whatever_their_size(candidates, monkeypatch):
    """500 candidates at 2^9 pairs a chunk: one entity at a time."""
    monkeypatch.setattr(allpairs, "CHUNK", 1 << 9)
    world = World(((0,), (1,), (2, 3)), 7, entities=5, candidates=candidates)
    found = [(first, Z.copy()) for first, Z, _ in chunks(*world.arguments())]
    assert [len(Z) for _, Z in found] == ([5] if candidates == 1 else [1] * 5)
    assert [first for first, _ in found] == ([0] if candidates == 1 else [0, 1, 2, 3, 4])
    rows = np.concatenate([Z for _, Z in found]).reshape(-1)
    np.testing.assert_allclose(rows, world.by_row(), atol=1e-5)


def test_counts_the_fields_with_an_unknown_value():
    world = World(((0, 4), (1,), (2, 3)), 8, density=0.5)
    counted = np.concatenate([unknown.copy() for _, _, unknown in chunks(*world.arguments())])
    np.testing.assert_array_equal(counted, (world.rows() == world.first).sum(axis=2))


def test_models_that_are_not_factored_go_row_by_row():
    world = World(((0,), (1, 2), (3,)), 9, model=HierarchicalPrior([1, 2], 0))
    np.testing.assert_array_equal(logits(*world.arguments()).reshape(-1), world.by_row())
    counted = np.concatenate([unknown for _, _, unknown in chunks(*world.arguments())])
    np.testing.assert_array_equal(counted, (world.rows() == world.first).sum(axis=2))


def test_chosen_pairs_as_rows():
    world = World(((2,), (0,), (1, 3)), 10)
    entity, candidate = np.array([3, 3, 0, 8, 3]), np.array([0, 6, 2, 2, 1])
    found = world.pairs.rows(world.sides, world.X_u, world.X_c, entity, candidate)
    np.testing.assert_array_equal(found, world.rows()[entity, candidate])


def test_same_bits_every_time():
    found = {hashlib.sha256(logits(*World(((0, 1), (2,), (3, 4)), 11).arguments()).tobytes()).hexdigest() for _ in "ab"}
    assert len(found) == 1


def test_no_entities():
    world = World(((0,), (1,), (2,)), 12)
    pairs = world.pairs
    none = PairFeatures(pairs.of_candidate, pairs.keys, pairs.indptr[:, :1], pairs.key, pairs.feature, pairs.default)
    assert logits(world.model, world.sides, world.X_u[:0], world.X_c, none, world.first).shape == (0, 7)


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"sides must name every field 0\.\.2 once, got \[0, 1, 1\]"):
        Sides((0,), (1,), (1,))
    world = World(((0,), (1,), (2,)), 13)
    model, sides, X_u, X_c, pairs, unknown = world.arguments()
    with pytest.raises(ValueError, match="pairs must be of 2 entities and 7 candidates, got 9 and 7"):
        next(chunks(model, sides, X_u[:2], X_c, pairs, unknown))
    with pytest.raises(ValueError, match="sides must name the model's 3 fields, got 2"):
        next(chunks(model, Sides((0,), (1,), ()), X_u, X_c, World(((0,), (1,), ()), 1).pairs, unknown))
    limit = pairs.keys[0]
    with pytest.raises(ValueError, match=rf"of_candidate of pair field 0 must be within 0\.\.{limit - 1}, got"):
        PairFeatures(pairs.of_candidate + limit, pairs.keys, pairs.indptr, pairs.key, pairs.feature, pairs.default)
    with pytest.raises(ValueError, match="must have 2 pair fields, got"):
        PairFeatures(pairs.of_candidate, (1, 1), pairs.indptr, pairs.key, pairs.feature, pairs.default)


def test_pair_features_too_many_for_tables_go_row_by_row(monkeypatch):
    world = World(((0,), (1,), (2, 3)), 14, missing=0.3)
    assert allpairs.engine(world.model, world.pairs) == allpairs.ALL_PAIRS
    expected = logits(*world.arguments())
    monkeypatch.setattr(allpairs, "TABLES", 10)
    assert allpairs.engine(world.model, world.pairs) == allpairs.BY_ROW
    np.testing.assert_allclose(logits(*world.arguments()), expected, atol=1e-5)


def test_a_key_twice_is_refused():
    world = World(((0,), (1,), (2,)), 15, density=1.0)
    pairs = world.pairs
    key = pairs.key.copy()
    key[1] = key[0]
    with pytest.raises(ValueError, match="key of pair field 0 must ascend within an entity, got 0 twice or late"):
        PairFeatures(pairs.of_candidate, pairs.keys, pairs.indptr, key, pairs.feature, pairs.default)
