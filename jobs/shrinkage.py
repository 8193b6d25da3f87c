"""Corrections of p within small slices: observed over expected conversions, each level shrunk to the one above it.

The levels are the whole, which is shrunk to 1, and below it the contract's prior.candidate_levels from coarse to fine
(promo: category, family). Of a value with O conversions where sum p = E were expected the ratio is
theta = (O + a · parent) / (E + a), the mean of a gamma distribution about its parent's ratio once Poisson counts were
seen (Clayton and Kaldor 1987); the own weight is E / (E + a). The strength a, in expected conversions, is per level the
one under which ratios of earlier periods predict the next period's conversions best. A likelihood of the counts would
take for a property of the slice what was weather of one period.

What it is worth is measured on later periods: ratios of the first half of the test periods, applied to the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffm_udf.predictions import opened
from ffm_udf.slice_sums import distinct
from jobs import intervals
from jobs.judged import Judged

WHOLE = "all"  # the level above all others, of one value
UNSEEN = "never seen in training"
SHOWN = 1000  # values of a level in the fact, at most: those with the most expected conversions, and the unseen one
STRENGTHS = np.logspace(-1, 6, 57)  # expected conversions that are tried: from none to all weight on the parent
CORRECTIONS = ("none", "whole", "raw", "shrunk")


@dataclass(frozen=True)
class Level:
    """One level: its name, the value id of every row int32 [n], and the id of values never seen in training."""

    name: str
    ids: np.ndarray
    unseen: int = -1

    @property
    def size(self) -> int:
        return int(self.ids.max(initial=0)) + 1

    def of(self, rows: slice) -> Level:
        return Level(self.name, self.ids[rows], self.unseen)


@dataclass(frozen=True)
class Ratios:
    """Per value id of a level, float64 [ids]: rows, conversions, expected (sum p) and parent ratio; the strength."""

    n: np.ndarray
    conversions: np.ndarray
    expected: np.ndarray
    parent: np.ndarray
    strength: float

    @property
    def weight(self) -> np.ndarray:
        return self.expected / (self.expected + self.strength)

    @property
    def raw(self) -> np.ndarray:
        """Without expected conversions there is nothing to correct by: 1."""
        return np.divide(self.conversions, self.expected, out=np.ones(len(self.n)), where=self.expected > 0)

    @property
    def shrunk(self) -> np.ndarray:
        return (self.conversions + self.strength * self.parent) / (self.expected + self.strength)

    def looked_up(self, values: np.ndarray, ids: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
        """`values` of these ids for rows with `ids`; `otherwise` float64 [rows] where a value had no row."""
        at = np.minimum(ids, len(self.n) - 1)
        return np.where((ids < len(self.n)) & (self.n[at] > 0), values[at], otherwise)


def shrinkage_facts(judged: Judged, model_id: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of the facts `slice_shrinkage` and `shrinkage_gain` for one model."""
    vocabulary = judged.cycle.dataset("vocabulary").table().to_pylist()
    levels = judged.cycle.contract.prior.candidate_levels
    named = {row["feature_id"]: row["value"] or UNSEEN for row in vocabulary if row["field"] in levels}
    unseen = {row["field"]: row["feature_id"] for row in vocabulary if row["field"] in levels and row["value"] is None}
    task = judged.task(place=judged.place_of(model_id), levels=[(name, unseen[name]) for name in levels])
    [found] = judged.run(of_model, [task])

    def name(feature: int | None, depth: int) -> str | None:
        return None if feature is None else named[feature] if depth > 0 else WHOLE

    return {
        "slice_shrinkage": [
            {"model_id": model_id, **row}
            | {"value": name(feature, row["depth"]), "parent": name(row["parent"], row["depth"] - 1)}
            for feature, row in found["slices"]
        ],
        "shrinkage_gain": [{"model_id": model_id, **row} for row in found["gain"]],
    }


def of_model(task: dict[str, Any]) -> dict[str, Any]:
    """`slices`: feature id and row of every value shown; `gain`: rows of fact `shrinkage_gain`.

    `task`: folders judged and predictions, place, levels (field and id of its values never seen in training).
    """
    rows, predictions = opened(task)
    test = rows.splits["test"]
    p, y, X = predictions.p(task["place"], test), np.asarray(rows.y[test]), rows.X[test]
    levels = [Level(WHOLE, np.zeros(len(p), np.int32))]
    levels += [Level(name, np.asarray(X[:, rows.fields.index(name)]), unseen) for name, unseen in task["levels"]]
    spans = [rows.periods[number] for number in rows.periods_of("test")]
    periods = [slice(span.start - test.start, span.stop - test.start) for span in spans]
    _, entity = np.unique(rows.entity[test], return_inverse=True)
    return {"slices": slices(p, y, levels, periods, entity), "gain": gain(p, y, levels, periods)}


def strengths(p: np.ndarray, y: np.ndarray, levels: Sequence[Level], periods: Sequence[slice]) -> list[float]:
    """Per level the strength of STRENGTHS whose ratios, learned on all earlier of `periods` (rows from 0 on, in order),
    miss the conversions of the next one least; of equal ones the largest. A single period leaves all to the parents."""
    chosen: list[float] = []
    for depth, level in enumerate(levels):
        missed = np.zeros(len(STRENGTHS))
        for rows in periods[1:]:
            past = slice(0, rows.start)
            known = fitted(p[past], y[past], [above.of(past) for above in levels[:depth]], chosen)
            above = [
                corrections(known, [one.of(part) for one in levels[:depth]], part.stop - part.start)
                for part in (past, rows)
            ]
            missed += _misses(
                _ratios(p[past], y[past], level.of(past), above[0], 0.0), p[rows], y[rows], level.ids[rows], above[1]
            )
        chosen.append(float(STRENGTHS[len(missed) - 1 - missed[::-1].argmin()]))
    return chosen


def _misses(past: Ratios, p: np.ndarray, y: np.ndarray, ids: np.ndarray, above: np.ndarray) -> np.ndarray:
    """`error` of the next period's rows by the ratios of `past` under each of STRENGTHS."""
    size = max(len(past.n), int(ids.max(initial=0)) + 1)
    known = [np.pad(part, (0, size - len(part))) for part in (past.n, past.conversions, past.expected, past.parent)]
    expected, conversions, inherited = (np.bincount(ids, weights, size) for weights in (p, y, p * above))
    a = STRENGTHS[:, None]
    corrected = np.where(known[0] > 0, (known[1] + a * known[3]) / (known[2] + a) * expected, inherited)
    return ((conversions - corrected) ** 2 / np.maximum(expected, 1.0)).sum(axis=1)


def fitted(p: np.ndarray, y: np.ndarray, levels: Sequence[Level], strengths: Sequence[float]) -> list[Ratios]:
    """The ratios of every level, each shrunk to the one before, the first to 1."""
    found: list[Ratios] = []
    for depth, (level, strength) in enumerate(zip(levels, strengths, strict=True)):
        found.append(_ratios(p, y, level, corrections(found, levels[:depth], len(p)), strength))
    return found


def corrections(known: Sequence[Ratios], levels: Sequence[Level], rows: int) -> np.ndarray:
    """The shrunk ratio of every row, float64 [rows]: of the finest level that knows its value, 1 where none does."""
    theta = np.ones(rows)
    for ratios, level in zip(known, levels, strict=True):
        theta = ratios.looked_up(ratios.shrunk, level.ids, theta)
    return theta


def _ratios(p: np.ndarray, y: np.ndarray, level: Level, above: np.ndarray, strength: float) -> Ratios:
    """Rows of a value can lie under several parents: its own parent is the mean of `above`, weighted by p."""
    n, conversions, expected, inherited = (
        np.bincount(level.ids, weights, level.size).astype(np.float64) for weights in (None, y, p, p * above)
    )
    parent = np.divide(inherited, expected, out=np.ones(level.size), where=expected > 0)
    return Ratios(n, conversions, expected, parent, strength)


def error(p: np.ndarray, y: np.ndarray, theta: np.ndarray, ids: np.ndarray) -> float:
    """Sum over values of (O - corrected E)² / max(E, 1): weights that no correction can choose for itself."""
    expected, corrected, conversions = (np.bincount(ids, weights) for weights in (p, p * theta, y))
    return float(((conversions - corrected) ** 2 / np.maximum(expected, 1.0)).sum())


def slices(
    p: np.ndarray, y: np.ndarray, levels: Sequence[Level], periods: Sequence[slice], entity: np.ndarray
) -> list[tuple[int, dict[str, Any]]]:
    """Feature id and the row of fact `slice_shrinkage`, but for model and value, of every value with rows; of a level
    with more than SHOWN the largest. `parent` is a feature id as well; `entity` int [rows]: numbers from 0."""
    rows = []
    known = fitted(p, y, levels, strengths(p, y, levels, periods))
    for depth, (level, ratios) in enumerate(zip(levels, known, strict=True)):
        order = np.argsort(-ratios.expected, kind="stable")
        shown = [int(at) for at in order[:SHOWN] if ratios.n[at] > 0 and at != level.unseen]
        # Nothing of it was learned, so it is shown whatever its size; without rows there is nothing to show.
        if 0 <= level.unseen < len(ratios.n) and ratios.n[level.unseen] > 0:
            shown.append(level.unseen)
        entities = distinct(level.ids, entity, level.size)
        parents = only_parents(level, levels[depth - 1]) if depth else {}
        rows += [
            (at, _row(level, depth, ratios, at) | {"entities": int(entities[at]), "parent": parents.get(at)})
            for at in shown
        ]
    return rows


def only_parents(level: Level, above: Level) -> dict[int, int]:
    """Value id -> id of the value of the level above that all its rows have, of values of which there is one."""
    values, parents = np.divmod(np.unique(level.ids.astype(np.int64) * above.size + above.ids), above.size)
    found, first, times = np.unique(values, return_index=True, return_counts=True)
    only = times == 1
    return dict(zip(found[only].tolist(), parents[first[only]].tolist(), strict=True))


def _row(level: Level, depth: int, ratios: Ratios, at: int) -> dict[str, Any]:
    return {
        "level": level.name,
        "depth": depth,
        "is_unseen": at == level.unseen,
        "n": int(ratios.n[at]),
        "conversions": int(ratios.conversions[at]),
        "sum_p": float(ratios.expected[at]),
        "raw_ratio": float(ratios.raw[at]),
        "shrunk_ratio": float(ratios.shrunk[at]),
        "weight": float(ratios.weight[at]),
        "parent_ratio": float(ratios.parent[at]),
        "strength": ratios.strength,
    }


def gain(p: np.ndarray, y: np.ndarray, levels: Sequence[Level], periods: Sequence[slice]) -> list[dict[str, Any]]:
    """Rows of fact `shrinkage_gain` but for the model: what the corrections of the first half of `periods` make of the
    conversions of each value in the second half, as `error` has it. None with fewer than two periods.

    Of a value without rows in the first half the raw ratio is 1 and the shrunk one its parent's.
    """
    half = len(periods) // 2
    if half < 1:
        return []
    past, same = slice(0, periods[half].start), np.ones(len(p))
    before = [level.of(past) for level in levels]
    known = fitted(p[past], y[past], before, strengths(p[past], y[past], before, periods[:half]))
    found = []
    for depth, (level, ratios) in enumerate(zip(levels, known, strict=True)):
        applied = {
            "none": same,
            "whole": known[0].raw[0] * same,
            "raw": ratios.looked_up(ratios.raw, level.ids, same),
            "shrunk": corrections(known[: depth + 1], levels[: depth + 1], len(p)),
        }
        errors = {
            name: np.array([error(p[rows], y[rows], theta[rows], level.ids[rows]) for rows in periods[half:]])
            for name, theta in applied.items()
        }
        found += [_gain(level, name, errors, half) for name in CORRECTIONS]
    return found


def _gain(level: Level, name: str, errors: Mapping[str, np.ndarray], half: int) -> dict[str, Any]:
    """One correction's error and its relative difference to none and to the raw ratio, paired by period; None where
    these have no error (a raw ratio has none where nobody converted)."""
    against = {
        other: intervals.ratio(errors[name] - errors[other], errors[other]) if errors[other].any() else None
        for other in ("none", "raw")
    }
    return {
        "level": level.name,
        "correction": name,
        "error": float(errors[name].sum()),
        "learned_periods": half,
        "n_periods": len(errors[name]),
        **{f"vs_{other}": gap and gap.value for other, gap in against.items()},
        **{f"vs_{other}_lo": gap and gap.lo for other, gap in against.items()},
        **{f"vs_{other}_hi": gap and gap.hi for other, gap in against.items()},
    }
