"""What contacting the pairs that a policy ranks highest brings, as sums per period over the depth of contacting.

A policy ranks the eligible pairs of a group: those of one candidate in one period, or all of one period. The level of a
pair is its rank, 1 = best; a budget of b contacts the pairs with level <= b. All sums are linear in money: contacts,
conversions and sales value, in this order. Margin and costs come in where they are read. NumPy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ffm_udf.judged_rows import JudgedRows
from ffm_udf.predictions import opened

POINTS = 60  # of a curve at most
CLUSTERS = 4096  # groups of entities that are redrawn together: entities beyond that many share one by their hash
DECILES = 10


def levels(score: np.ndarray, tie: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The rank of each row within its group, int64 [n] from 1, by falling score; equal scores in the order of `tie`,
    never in that of the rows, which may carry information."""
    order = np.lexsort((tie, -score, group))
    grouped = group[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = grouped[1:] != grouped[:-1]
    place = np.arange(len(order))
    found = np.empty(len(order), np.int64)
    found[order] = place - np.maximum.accumulate(np.where(is_first, place, 0)) + 1
    return found


def budgets(largest: int, at: int | None) -> np.ndarray:
    """At most POINTS budgets from 0 to `largest` (the largest group: all are contacted), each about the same factor
    above the one before; `at` is among them."""
    if largest < 1:
        return np.array(sorted({0, at or 0}), np.int64)
    fixed = {0, largest} | ({at} if at is not None else set())
    steps = np.geomspace(1, largest, POINTS - len(fixed)).round().astype(np.int64)
    return np.array(sorted(fixed | set(steps.tolist())), np.int64)


def ranked_curve(level: np.ndarray, grid: np.ndarray, y: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Contacts, conversions and sales value of the rows with level <= grid[g], float64 [len(grid), 3]."""
    point = np.searchsorted(grid, level)  # the first budget that reaches the row
    columns = (None, y, value)
    return np.column_stack([np.bincount(point, c, len(grid) + 1)[: len(grid)].cumsum() for c in columns])


def random_curve(group: np.ndarray, grid: np.ndarray, y: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The same in expectation when each group's contacts are drawn at random: a group of s rows gives the share
    min(b / s, 1) of its sums. Exact: nothing is drawn."""
    size = np.bincount(group).astype(np.float64)
    sums = np.column_stack([size, np.bincount(group, y), np.bincount(group, value)])
    share = np.minimum(grid[:, None] / np.maximum(size, 1.0), 1.0)
    return share @ sums


def deciles(score: np.ndarray, tie: np.ndarray, y: np.ndarray, p: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Rows, conversions, sum of p and sales value by tenth of the ranking, the best first, float64 [10, 4]."""
    place = levels(score, tie, np.zeros(len(score), np.int64)) - 1
    tenth = place * DECILES // max(len(score), 1)
    return np.column_stack([np.bincount(tenth, c, DECILES) for c in (None, y, p, value)])


def by_cluster(cluster: np.ndarray, share: np.ndarray, y: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Contacts, conversions and sales value by cluster when each row is contacted with probability `share`,
    float64 [CLUSTERS, 3]."""
    return np.column_stack([np.bincount(cluster, c, CLUSTERS) for c in (share, share * y, share * value)])


def policy_sums(task: dict[str, Any]) -> dict[str, Any]:
    """What a policy brings in each of the `periods`, P in all.

    task: `policy` "ranked" (by the raw logit of `place`, since a calibrator may tie what it tells apart), "random" or
    "perfect" (by what was bought, an upper bound); `per` "candidate" or "period"; `at`: the budget, None to find one
    out; `periods`: their numbers; `clusters`: whether sums by group of entities are asked for, at the budget.

    Returns `grid` int64 [G]; `curve` float64 [P, G, 3]; `whole` float64 [P, 3], all eligible pairs, their conversions
    and sales value; with a budget `at` float64 [P, 3]; if asked for, `clusters` float64 [CLUSTERS, P, 3] and `present`
    bool [CLUSTERS]; for a ranking `deciles` float64 [P, 10, 4].
    """
    rows, predictions = opened(task)
    wanted = [rows.periods[number] for number in task["periods"]]
    kept = [_eligible(rows, span) for span in wanted]
    groups = [_groups(rows, mine, task["per"]) for mine in kept]
    largest = max((int(np.bincount(group).max()) for group in groups if len(group)), default=0)
    at = task["at"]
    grid = budgets(largest, at)
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("curve", "whole", "clusters", "deciles")}
    present = np.zeros(CLUSTERS, bool)
    for span, mine, group in zip(wanted, kept, groups, strict=True):
        y, value = rows.y[mine].astype(np.float64), rows.value[mine]
        tie = rows.tie[mine]
        found["whole"].append(np.array([len(mine), y.sum(), value.sum()]))
        if task["policy"] == "random":
            found["curve"].append(random_curve(group, grid, y, value))
            share = np.minimum((at or 0) / np.maximum(np.bincount(group)[group], 1), 1.0) if len(mine) else y
        else:
            # Of what is bought, sales value counts; a purchase of no value comes before none.
            is_ranked = task["policy"] == "ranked"
            score = predictions.logits(task["place"])[mine] if is_ranked else y * (1.0 + value)
            level = levels(score, tie, group)
            found["curve"].append(ranked_curve(level, grid, y, value))
            share = (level <= (at or 0)).astype(np.float64)
            if is_ranked:
                p = predictions.p(task["place"], span)[mine - span.start]
                found["deciles"].append(deciles(score, tie, y, p, value))
        if task["clusters"]:
            cluster = (rows.entity[mine] % np.uint64(CLUSTERS)).astype(np.int64)
            found["clusters"].append(by_cluster(cluster, share, y, value))
            present |= np.bincount(cluster, minlength=CLUSTERS) > 0
    stacked: dict[str, Any] = {name: np.stack(parts) for name, parts in found.items() if parts}
    if at is not None:
        stacked["at"] = stacked["curve"][:, int(np.searchsorted(grid, at))]
    if task["clusters"]:
        stacked |= {"clusters": stacked["clusters"].transpose(1, 0, 2), "present": present}
    return stacked | {"grid": grid}


def _eligible(rows: JudgedRows, span: slice) -> np.ndarray:
    """The rows of the span that may be contacted."""
    if rows.eligible is None:
        return np.arange(span.start, span.stop)
    return span.start + np.flatnonzero(rows.eligible[span])


def _groups(rows: JudgedRows, mine: np.ndarray, per: str) -> np.ndarray:
    """The group that each of the rows competes in, int64 from 0."""
    if per == "period":
        return np.zeros(len(mine), np.int64)
    return np.unique(rows.candidate[mine], return_inverse=True)[1].astype(np.int64)
