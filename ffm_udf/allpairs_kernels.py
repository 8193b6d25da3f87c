"""The loops of allpairs.py: gathering one side's latent vectors, and finishing what the matrix multiply began."""

import functools
from collections import namedtuple

import numpy as np
from numba.core import types

from ffm_udf.kernels import array, compile_kernel

# Where one side's fields stand among the model's: own, the other side's, and pair fields, int64 each. The numbers of
# own field i and other field j begin at at[i] + j * of_other of P_u or Q_c; at[i] = -1 leaves own field i out.
Places = namedtuple("Places", "own other pair at of_other")
PLACES = types.NamedTuple([*[array(types.int64, 1, False)] * 4, types.int64], Places)

# Candidates by key: those with key place j (all fields' keys in one numbering) are holder[start[j] : start[j + 1]],
# start int64, holder int32. Field p: its keys begin at place first_key[p], its entries are those of indptr [P, entities
# + 1], and feature y has code code_of[first_code[p] + y], 0 the default.
# A [entities, W], B [W, candidates] and D [W, W] float32; change int8 [W].
# What entity features that repeat add to every candidate is added up once, T [rows, candidates] float32; row_of int32
# [entities, fields] says which rows an entity's features have.
Lookups = namedtuple("Lookups", "start holder first_key indptr first_code code_of A B D change T row_of")
# A tuple's arrays are taken as they are, writable: numba makes parameters read-only, not what is inside them.
LOOKUPS = types.NamedTuple(
    [
        array(types.int64, 1, False),
        array(types.int32, 1, False),
        array(types.int64, 1, False),
        array(types.int64, 2, False),
        array(types.int64, 1, False),
        array(types.int32, 1, False),
        *[array(types.float32, 2, False)] * 3,
        array(types.int8, 1, False),
        array(types.float32, 2, False),
        array(types.int32, 2, False),
    ],
    Lookups,
)


@functools.cache
def gatherer():
    """Kernel `gather`."""

    def gather(X, latent, weights, places, against, linear, quadratic, scale, vectors, constant, to_pairs):
        """One side of the formula for rows X int32 [n, own fields]; -1 is no feature.

        latent float32 [features, fields, lanes], weights float32 [features]; against float32 [P, own fields, k]: the
        defaults' vectors v_{d_p, f}. Fills vectors [n, d] (times scale), constant [n] and to_pairs [n, P, own · k]
        (times quadratic).
        """
        own, other, pair, at, of_other = places
        k = against.shape[2]
        for i in range(X.shape[0]):
            row, straight, twice = np.uint64(i), np.float32(0.0), np.float32(0.0)
            for a in range(own.shape[0]):
                j = X[row, np.uint64(a)]
                first = at[np.uint64(a)]
                if j < 0:
                    if first >= 0:
                        for b in range(other.shape[0]):
                            for d in range(k):
                                vectors[row, np.uint64(first + b * of_other + d)] = 0.0
                    for p in range(pair.shape[0]):
                        for d in range(k):
                            to_pairs[row, np.uint64(p), np.uint64(a * k + d)] = 0.0
                    continue
                v = latent[np.uint64(j)]
                straight += weights[np.uint64(j)]
                if first >= 0:
                    for b in range(other.shape[0]):
                        met, begin = v[np.uint64(other[np.uint64(b)])], first + b * of_other
                        for d in range(k):
                            vectors[row, np.uint64(begin + d)] = met[np.uint64(d)] * scale
                for p in range(pair.shape[0]):
                    met = v[np.uint64(pair[np.uint64(p)])]
                    for d in range(k):
                        value = met[np.uint64(d)] * quadratic
                        to_pairs[row, np.uint64(p), np.uint64(a * k + d)] = value
                        twice += value * against[np.uint64(p), np.uint64(a), np.uint64(d)]
                for b in range(a):
                    other_id = X[row, np.uint64(b)]
                    if other_id >= 0:
                        mine, yours = (
                            v[np.uint64(own[np.uint64(b)])],
                            latent[np.uint64(other_id), np.uint64(own[np.uint64(a)])],
                        )
                        product = np.float32(0.0)
                        for d in range(k):
                            product += mine[np.uint64(d)] * yours[np.uint64(d)]
                        twice += quadratic * product
            constant[row] = linear * straight + twice

    real = types.float32
    signature = types.void(
        array(types.int32, 2), types.Array(real, 3, "A", readonly=True), types.Array(real, 1, "A", readonly=True),
        PLACES, array(real, 3), real, real, real, array(real, 2, False), array(real, 1, False),
        array(real, 3, False))  # fmt: skip
    return compile_kernel(gather, "side", signature)


@functools.cache
def finisher():
    """Kernel `finish`."""

    def finish(first, entity, candidate, key, feature, lookups, seen, Z, unknown):
        """Adds to Z [rows, candidates] what the pair fields and both sides' own terms give, and to `unknown`, int8 of
        the same shape, the pair fields whose value the model does not know.

        Row i of Z is entity first + i of `lookups`, and row i of A and row_of; entity and candidate are s_u and s_c;
        key and feature are the entries. `seen` is int32 scratch [candidates, P + 1]: how many of the pair's fields are
        not default, and their codes.
        """
        start, holder, first_key, indptr, first_code, code_of, A, B, D, change, T, row_of = lookups
        rows, candidates = Z.shape
        for i in range(rows):
            u, entry = np.uint64(i), np.uint64(first + i)
            of_row, unknown_row, own = Z[u], unknown[u], entity[u]
            for c in range(candidates):
                of_row[np.uint64(c)] += own + candidate[np.uint64(c)]
            for f in range(0, row_of.shape[1] - 1, 2):  # two at a time: a load and a store of the row less
                one, two = T[np.uint64(row_of[u, np.uint64(f)])], T[np.uint64(row_of[u, np.uint64(f + 1)])]
                for c in range(candidates):
                    of_row[np.uint64(c)] += one[np.uint64(c)] + two[np.uint64(c)]
            if row_of.shape[1] % 2:
                one = T[np.uint64(row_of[u, np.uint64(row_of.shape[1] - 1)])]
                for c in range(candidates):
                    of_row[np.uint64(c)] += one[np.uint64(c)]
            for c in range(candidates):
                seen[np.uint64(c), np.uint64(0)] = 0
            for p in range(indptr.shape[0]):
                field = np.uint64(p)
                for e in range(indptr[field, entry], indptr[field, entry + np.uint64(1)]):
                    x = np.uint32(code_of[np.uint64(first_code[field] + feature[np.uint64(e)])])
                    if x == 0:
                        continue
                    place = np.uint64(first_key[field] + key[np.uint64(e)])
                    base, of_feature, met, turn = A[u, x], B[x], D[x], change[x]
                    for t in range(start[place], start[place + np.uint64(1)]):
                        c = np.uint32(holder[np.uint64(t)])
                        n = seen[c, np.uint64(0)]
                        z = base + of_feature[c]
                        for j in range(1, n + 1):
                            z += met[np.uint32(seen[c, np.uint64(j)])]
                        seen[c, np.uint64(n + 1)] = np.int32(x)
                        seen[c, np.uint64(0)] = n + 1
                        of_row[c] += z
                    if turn != 0:
                        for t in range(start[place], start[place + np.uint64(1)]):
                            unknown_row[np.uint32(holder[np.uint64(t)])] += turn

    signature = types.void(
        types.int64, *[array(types.float32, 1)] * 2, *[array(types.int32, 1)] * 2, LOOKUPS,
        array(types.int32, 2, False), array(types.float32, 2, False), array(types.int8, 2, False))  # fmt: skip
    return compile_kernel(finish, "sparse", signature)


@functools.cache
def expander():
    """Kernel `expand`."""

    def expand(entity, candidate, of_candidate, indptr, key, feature, default, first, held, found):
        """Fills found int32 [n, P] with the pair features of the pairs (entity[i], candidate[i]). The keys of field p
        begin at first[p] of `held`, int32 scratch that has the fields' defaults before and after."""
        P = of_candidate.shape[1]
        last = np.int64(-1)
        for i in range(entity.shape[0]):
            u, c = entity[np.uint64(i)], np.uint64(candidate[np.uint64(i)])
            if u != last:
                for p in range(P):
                    if last >= 0:
                        for e in range(indptr[p, last], indptr[p, last + 1]):
                            held[first[p] + key[e]] = default[p]
                    for e in range(indptr[p, u], indptr[p, u + 1]):
                        held[first[p] + key[e]] = feature[e]
                last = u
            for p in range(P):
                found[i, p] = held[first[p] + of_candidate[c, np.uint64(p)]]

    signature = types.void(
        *[array(types.int64, 1)] * 2, array(types.int32, 2), array(types.int64, 2), *[array(types.int32, 1)] * 3,
        array(types.int64, 1), array(types.int32, 1, False), array(types.int32, 2, False))  # fmt: skip
    return compile_kernel(expand, "pairs", signature)
