"""Sums of contacts: who is contacted, by rank, at random and with foresight, against slow twins and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import judged_world
import numpy as np
import pytest

from ffm_udf import profit
from ffm_udf.judged_rows import JudgedRows

PERIODS = {3: 700, 4: 500}


def world(root: Path, seed: int = 1, eligible: bool = False) -> tuple[dict[str, Any], JudgedRows, np.ndarray]:
    """Two periods, 9 candidates, 40 entities; scores on a coarse grid, so that many tie."""
    rng = np.random.default_rng(seed)
    n = sum(PERIODS.values())
    y = (rng.random(n) < 0.2).astype(np.int8)
    columns = {
        "y": y,
        "value": np.where(y == 1, rng.integers(0, 9, n) / 2.0, 0.0),
        "candidate": rng.integers(0, 9, n).astype(np.uint64),
        "entity": rng.integers(0, 40, n).astype(np.uint64),
    }
    if eligible:
        columns["eligible"] = rng.random(n) < 0.7
    scores = rng.integers(-4, 5, n) / 2 + y
    task = judged_world.write(root, columns, PERIODS, {"valid": (3, 3), "calib": (3, 3), "test": (3, 4)}, [scores])
    return task, JudgedRows.open(task["judged"]), scores


def ask(task: dict[str, Any], policy: str, per: str, at: int | None) -> dict[str, Any]:
    return profit.policy_sums(
        task | {"policy": policy, "place": 0, "per": per, "at": at, "periods": [3, 4], "clusters": at is not None}
    )


def slowly(rows: JudgedRows, scores: np.ndarray, per: str, budget: int) -> np.ndarray:
    """Contacts, conversions and sales value by period: sort each group as a list of tuples, take the first."""
    found = np.zeros((2, 3))
    for i, number in enumerate((3, 4)):
        groups: dict[int, list[tuple]] = {}
        for row in range(rows.periods[number].start, rows.periods[number].stop):
            if rows.eligible is None or rows.eligible[row]:
                key = int(rows.candidate[row]) if per == "candidate" else 0
                groups.setdefault(key, []).append((-scores[row], int(rows.tie[row]), row))
        for members in groups.values():
            for _, _, row in sorted(members)[:budget]:
                found[i] += [1, rows.y[row], rows.value[row]]
    return found


@pytest.mark.parametrize("per", ["candidate", "period"])
@pytest.mark.parametrize("eligible", [False, True])
def test_every_point_of_a_ranked_curve_is_that_of_its_slow_twin(tmp_path: Path, per: str, eligible: bool) -> None:
    task, rows, scores = world(tmp_path, eligible=eligible)
    found = ask(task, "ranked", per, 7)
    assert len(found["grid"]) <= profit.POINTS
    assert found["grid"][0] == 0
    for point, budget in enumerate(found["grid"].tolist()):
        np.testing.assert_allclose(found["curve"][:, point], slowly(rows, scores, per, budget))
    np.testing.assert_allclose(found["at"], slowly(rows, scores, per, 7))
    np.testing.assert_allclose(found["curve"][:, -1], found["whole"])  # the largest budget reaches everybody


def test_eligible_pairs_alone_are_ranked(tmp_path: Path) -> None:
    task, rows, _ = world(tmp_path, eligible=True)
    assert rows.eligible is not None
    whole = ask(task, "ranked", "candidate", 7)["whole"]
    assert whole[:, 0].tolist() == [rows.eligible[rows.periods[n]].sum() for n in (3, 4)]


def test_the_order_of_rows_decides_nothing() -> None:
    tied, tie = np.zeros(6), np.array([5, 3, 9, 1, 7, 2], np.uint64)
    group = np.array([0, 0, 1, 1, 0, 1])
    # group 0 has ties 5, 3, 7, group 1 has 9, 1, 2
    assert profit.levels(tied, tie, group).tolist() == [2, 1, 3, 1, 3, 2]
    turned = profit.levels(tied[::-1], tie[::-1], group[::-1])
    assert turned[::-1].tolist() == [2, 1, 3, 1, 3, 2]


def test_random_contacts_are_the_mean_over_many_drawings(tmp_path: Path) -> None:
    task, rows, _ = world(tmp_path)
    exact = ask(task, "random", "candidate", 7)["at"]
    rng = np.random.default_rng(3)
    drawn = np.array([slowly(rows, rng.random(len(rows.y)), "candidate", 7) for _ in range(300)])
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - exact) <= 4 * error + 1e-9).all()
    assert exact[:, 0] == pytest.approx([63, 63])  # 7 of each of 9 candidates


def test_foresight_is_reached_by_nobody_and_takes_the_dearest_first(tmp_path: Path) -> None:
    task, rows, _ = world(tmp_path)
    best, ranked = (ask(task, name, "period", 7) for name in ("perfect", "ranked"))
    assert (best["curve"][:, :, 1:] >= ranked["curve"][:, :, 1:] - 1e-9).all()
    dearest = [np.sort(rows.value[rows.periods[n]])[-7:].sum() for n in (3, 4)]
    assert best["at"][:, 2] == pytest.approx(dearest)
    assert best["at"][:, 1].tolist() == [7, 7]


@pytest.mark.parametrize("policy", ["ranked", "random", "perfect"])
def test_clusters_add_up_to_the_budget(tmp_path: Path, policy: str) -> None:
    task, rows, _ = world(tmp_path)
    found = ask(task, policy, "candidate", 7)
    np.testing.assert_allclose(found["clusters"].sum(axis=0), found["at"])
    assert found["clusters"].shape == (profit.CLUSTERS, 2, 3)
    assert set(np.flatnonzero(found["present"])) == set(np.unique(rows.entity[:]).tolist())


def test_deciles_divide_every_period(tmp_path: Path) -> None:
    task, rows, scores = world(tmp_path)
    parts = ask(task, "ranked", "candidate", 7)["deciles"]
    assert parts[:, :, 0].tolist() == [[70.0] * 10, [50.0] * 10]
    p = 1 / (1 + np.exp(-scores.astype(np.float32).astype(float)))
    for i, number in enumerate((3, 4)):
        mine = rows.periods[number]
        assert parts[i].sum(axis=0)[1:] == pytest.approx([rows.y[mine].sum(), p[mine].sum(), rows.value[mine].sum()])
        order = np.lexsort((rows.tie[mine], -scores[mine]))
        first = order[: len(order) // 10]
        assert parts[i, 0, 1] == rows.y[mine][first].sum()


@pytest.mark.parametrize(("largest", "at"), [(0, 3), (1, 1), (5, 20), (59, 20), (10_000, 20), (70_000, None)])
def test_budgets_are_few_rise_and_hold_the_target(largest: int, at: int | None) -> None:
    grid = profit.budgets(largest, at)
    assert len(grid) <= profit.POINTS
    assert (np.diff(grid) > 0).all()
    assert grid[0] == 0
    assert {0, largest} | ({at} if at else set()) <= set(grid.tolist()) or largest < 1
    assert at is None or at in grid


def test_without_a_budget_there_is_a_curve_alone(tmp_path: Path) -> None:
    task, _, _ = world(tmp_path)
    found = ask(task, "ranked", "candidate", None)
    assert {"at", "clusters", "present"}.isdisjoint(found)
    assert found["curve"].shape == (2, len(found["grid"]), 3)


@pytest.mark.parametrize("policy", ["ranked", "random", "perfect"])
def test_a_period_in_which_nobody_is_eligible_brings_nothing(tmp_path: Path, policy: str) -> None:
    n = 20
    columns = {"y": np.ones(n, np.int8), "value": np.ones(n), "eligible": np.arange(n) < 10}
    task = judged_world.write(tmp_path, columns, {3: 10, 4: 10}, {"test": (3, 4)}, [np.arange(n)])
    found = ask(task, policy, "candidate", 4)
    assert found["at"].tolist() == [[4, 4, 4], [0, 0, 0]]
    assert found["whole"].tolist() == [[10, 10, 10], [0, 0, 0]]
