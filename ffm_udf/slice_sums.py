"""Sums of calibrated predictions on the test rows by slice and period, and by pairs of slices. NumPy only.

Beside the slices of the contract three are built in: `entity_seen` and `candidate_seen` by how often the model met the
row's entity and candidate while it learned, and `rarest_feature` by how often it met the least known of the row's
fields (those that are no history, which counts exposures itself). A value with fewer training rows than the contract's
min_count has no feature of its own: it is new to the model.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffm_udf.field_scan import counts
from ffm_udf.judged_rows import JudgedRows
from ffm_udf.metrics import row_logloss
from ffm_udf.predictions import opened

GROUPS = 64  # of entities, and of candidates, for the variance of a pair of slices
PARENT_SHARE = 0.95  # a pair of slices that is nearly all of one of them says nothing new
DENSE = 200_000  # cells of a pair of slices up to which all are laid out


@dataclass(frozen=True)
class Slices:
    """One way to divide rows: the code of each row, and what the codes mean."""

    name: str
    codes: np.ndarray  # int [n]
    values: list[str]


def seen_rows(
    rows: JudgedRows, span: slice, training: slice, unknown: dict[str, int], n_features: int
) -> dict[str, np.ndarray]:
    """How many rows of `training` (of the RowStore) have the value that each row of `span` has, float64 [n] by field of
    `unknown`; 0 for a value the model does not know, whose feature that is. One pass over the rows, in chunks."""
    columns = [rows.fields.index(field) for field in unknown]
    seen, _ = counts(rows.store.X[training], rows.store.y[training], n_features, columns)
    seen[list(unknown.values())] = 0
    return {field: seen[rows.X[span, column]] for field, column in zip(unknown, columns, strict=True)}


def by_frequency(name: str, seen: np.ndarray, min_count: int, is_fine: bool) -> Slices:
    """Slices by the number of training rows: new, rare, frequent, or in powers of ten."""
    if is_fine:
        edges = [min_count * 10**power for power in range(4)]
        words = [f"{i + 1}: {a:,} to {b - 1:,}" for i, (a, b) in enumerate(itertools.pairwise(edges), 1)]
        values = [f"1: under {min_count:,}", *words, f"{len(edges) + 1}: {edges[-1]:,} or more"]
    else:
        edges = [min_count, 10 * min_count]
        values = [f"new (under {edges[0]:,} training rows)", f"rare (under {edges[1]:,})", "frequent"]
    return Slices(name, np.searchsorted(edges, seen, side="right"), values)


def slices_of(rows: JudgedRows, span: slice, task: dict[str, Any]) -> list[Slices]:
    """The declared slices of the rows, then those built in that the contract has no slice of the same name for.

    task: `training` [first, stop) rows of the RowStore; `n_features`; `unknown`: field -> the feature of its unknown
    values; `entity_field`, `candidate_field`; `plain_fields`: those that are no history; `min_count`.
    """
    found = declared(rows, span)
    training = slice(*task["training"])
    needed = {task["entity_field"], task["candidate_field"], *task["plain_fields"]}
    unknown = {field: feature for field, feature in task["unknown"].items() if field in needed}
    seen = seen_rows(rows, span, training, unknown, task["n_features"])
    built_in = [
        by_frequency("entity_seen", seen[task["entity_field"]], task["min_count"], False),
        by_frequency("candidate_seen", seen[task["candidate_field"]], task["min_count"], False),
    ]
    if task["plain_fields"]:
        rarest = np.minimum.reduce([seen[field] for field in task["plain_fields"]])
        built_in.append(by_frequency("rarest_feature", rarest, task["min_count"], True))
    names = {item.name for item in found}
    return found + [item for item in built_in if item.name not in names]


def declared(rows: JudgedRows, span: slice) -> list[Slices]:
    """The slices of the contract."""
    codes = np.asarray(rows.slices[span])
    named = enumerate(zip(rows.slice_names, rows.slice_values, strict=True))
    return [Slices(name, codes[:, place], list(values)) for place, (name, values) in named]


def slice_sums(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Per model of `places` and per way to slice: `place`, `name`, `values`, `entities` and `sums`.

    entities: int64 [values], the different ones among the rows of a slice.

    sums: float64 [values, periods, 5], the rows, conversions, sum of p, of logloss and of p (1 - p), which is the
    variance of the conversions if p is right. The rest of the task is that of `slices_of`, and `periods`, the numbers
    of the test's.
    """
    rows, predictions = opened(task)
    span = rows.splits["test"]
    every = slices_of(rows, span, task)
    y, period = rows.y[span].astype(np.float64), period_index(rows, span, task["periods"])
    number = len(task["periods"])
    cells = [item.codes * number + period for item in every]
    sizes = [len(item.values) * number for item in every]
    of_rows = [
        [np.bincount(cell, weights, size) for weights in (None, y)] for cell, size in zip(cells, sizes, strict=True)
    ]
    _, entity = np.unique(rows.entity[span], return_inverse=True)
    entities = [distinct(item.codes, entity, len(item.values)) for item in every]
    found = []
    for place in task["places"]:
        p = predictions.p(place, span)
        loss = row_logloss(y, p)
        for item, cell, size, counted, people in zip(every, cells, sizes, of_rows, entities, strict=True):
            columns = [*counted, *(np.bincount(cell, weights, size) for weights in (p, loss, p * (1 - p)))]
            sums = np.stack(columns, axis=-1).reshape(len(item.values), number, 5)
            found.append({"place": place, "name": item.name, "values": item.values, "entities": people, "sums": sums})
    return found


def distinct(codes: np.ndarray, numbers: np.ndarray, size: int) -> np.ndarray:
    """How many different `numbers` (int [n], from 0) rows of each of `size` codes have, int64 [size]."""
    count = int(numbers.max(initial=0)) + 1
    pairs = np.unique(codes.astype(np.int64) * count + numbers)
    return np.bincount(pairs // count, minlength=size)


def period_index(rows: JudgedRows, span: slice, numbers: list[int]) -> np.ndarray:
    """The place of each row's period among `numbers`, int64 [n]."""
    found = np.zeros(span.stop - span.start, np.int64)
    for place, number in enumerate(numbers):
        mine = rows.periods[number]
        found[mine.start - span.start : mine.stop - span.start] = place
    return found


def pair_sums(task: dict[str, Any]) -> dict[str, Any]:
    """Every pair of declared slices of the model at `place`, with `min_n` rows or more in both halves of the test.

    task: `halves`: two lists of period numbers. p is first scaled to the observed rate of each period: a cell is off
    against the whole, not with it. Returns `names` (pairs of texts "slice = value") and `sums` float64
    [cells, 2, 5] by half: rows, conversions, sum of scaled p, sum of gaps (scaled p - y) and the variance of that sum:
    the largest of those of independent rows, of GROUPS groups of entities and of as many of candidates. Groups alone
    would see none where nobody converted.
    """
    rows, predictions = opened(task)
    halves = [_half(rows, predictions, task["place"], numbers) for numbers in task["halves"]]
    names: list[tuple[str, str]] = []
    sums: list[np.ndarray] = []
    slices = [declared(rows, half["span"]) for half in halves]
    for a in range(len(rows.slice_names)):
        for b in range(a + 1, len(rows.slice_names)):
            first, second = (_cells(mine[a], mine[b], half) for mine, half in zip(slices, halves, strict=True))
            for cell in sorted(first.keys() & second.keys()):
                both = np.stack([first[cell], second[cell]])
                if (both[:, 0] < task["min_n"]).any():
                    continue
                code_a, code_b = divmod(cell, len(rows.slice_values[b]))
                values = rows.slice_values[a][code_a], rows.slice_values[b][code_b]
                names.append((f"{rows.slice_names[a]} = {values[0]}", f"{rows.slice_names[b]} = {values[1]}"))
                sums.append(both)
    return {"names": names, "sums": np.array(sums).reshape(-1, 2, 5)}


def _half(rows: JudgedRows, predictions: Any, place: int, numbers: list[int]) -> dict[str, Any]:
    """The rows of consecutive periods: label, p scaled to the rate of its period, groups of entities and candidates."""
    span = slice(rows.periods[numbers[0]].start, rows.periods[numbers[-1]].stop)
    y, period = rows.y[span].astype(np.float64), period_index(rows, span, numbers)
    p = predictions.p(place, span)
    scale = np.bincount(period, y) / np.maximum(np.bincount(period, p), 1e-300)
    groups = [(keys[span] % np.uint64(GROUPS)).astype(np.int64) for keys in (rows.entity, rows.candidate)]
    return {"span": span, "y": y, "p": p * scale[period], "groups": groups}


def _cells(a: Slices, b: Slices, half: dict[str, Any]) -> dict[int, np.ndarray]:
    """By cell (code of a times values of b + code of b): the five sums of `pair_sums`."""
    cell = a.codes.astype(np.int64) * len(b.values) + b.codes
    size = len(a.values) * len(b.values)
    present = np.arange(size) if size <= DENSE else np.unique(cell)
    at = cell if size <= DENSE else np.searchsorted(present, cell)
    n = np.bincount(at, minlength=len(present))
    parents = np.minimum(
        np.bincount(a.codes, minlength=len(a.values))[present // len(b.values)],
        np.bincount(b.codes, minlength=len(b.values))[present % len(b.values)],
    )
    p, gap = half["p"], half["p"] - half["y"]
    variances = [np.bincount(at, p * np.maximum(1 - p, 0), len(present))]
    for group in half["groups"]:
        grouped = np.bincount(at * GROUPS + group, gap, len(present) * GROUPS).reshape(len(present), GROUPS)
        variances.append(GROUPS * grouped.var(axis=1, ddof=1))
    columns = [n, *(np.bincount(at, weights, len(present)) for weights in (half["y"], p, gap))]
    sums = np.column_stack([*columns, np.maximum.reduce(variances)])
    kept = np.flatnonzero((n > 0) & (n < PARENT_SHARE * parents))
    return dict(zip(present[kept].tolist(), sums[kept], strict=True))
