"""The comparison of k: the smallest one that is not worse than the best by more than the margin."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import numpy as np
import pytest
from scipy import stats

from jobs import facts
from jobs.comparison import (
    Decided,
    calibration_interval,
    compare_baselines,
    compare_incumbent,
    compare_k,
    shown,
    with_intervals,
)

WEEK = dt.timedelta(days=7)
N = 1000


def card(k: int, seed: int = 1, algorithm: str = "ffm") -> dict[str, Any]:
    hyper = {"k": k, "seed": seed} if algorithm == "ffm" else {"strength": 20.0}
    return {"model_id": f"{algorithm}-k{k}-s{seed}", "algorithm": algorithm, "task": {"hyperparameters": hyper}}


def sums(of: dict[str, Any], losses: list[float], split: str = "test", n: int = N) -> list[dict[str, Any]]:
    """One row per week with mean logloss `losses`."""
    return [
        {
            "model_id": of["model_id"],
            "split": split,
            "period": dt.date(2017, 10, 30) + week * WEEK,
            "n": n,
            "conversions": n // 5,
            "sum_p": n * 0.21,
            "sum_logloss": n * loss,
            "sum_squared_error": n * 0.16,
            "auc": 0.7,
        }
        for week, loss in enumerate(losses)
    ]


def world(losses: dict[int, list[float]], margin: float = 0.002) -> list[dict[str, Any]]:
    cards = [card(k) for k in losses]
    rows = [row for of, loss in zip(cards, losses.values(), strict=True) for row in sums(of, loss)]
    return compare_k(rows, cards, margin, 1)


def verdict(rows: list[dict[str, Any]]) -> int:
    [row] = [row for row in rows if row["is_verdict"]]
    return row["k"]


BASE = [0.40, 0.42, 0.41, 0.39, 0.40, 0.43, 0.41, 0.40, 0.42]


def shifted(by: float, wobble: float = 0.0) -> list[float]:
    signs = [1, -1, 1, -1, 0, 1, -1, 1, -1]
    return [loss + by + wobble * sign for loss, sign in zip(BASE, signs, strict=True)]


def test_a_flat_curve_takes_the_smallest_k() -> None:
    assert verdict(world({1: shifted(0), 2: shifted(0), 4: shifted(0), 8: shifted(0)})) == 1


def test_the_best_k_is_taken_when_all_others_are_clearly_worse() -> None:
    assert verdict(world({1: shifted(0.05), 2: shifted(0.02), 4: shifted(0.0), 8: shifted(0.01)})) == 4


def test_the_verdict_is_the_smallest_that_is_not_inferior() -> None:
    # The margin is 0.2 % of the best logloss, 0.40889: 0.00082. k = 2 is worse by 0.0004, k = 1 by 0.002.
    rows = world({1: shifted(0.002), 2: shifted(0.0004), 4: shifted(0.0001), 8: shifted(0)})
    assert verdict(rows) == 2
    assert {row["k"]: row["is_non_inferior"] for row in rows} == {1: False, 2: True, 4: True, 8: True}
    assert rows[0]["margin"] == pytest.approx(0.002 * np.mean(BASE))
    assert {row["best_k"] for row in rows} == {8}


def test_the_bound_decides_not_the_estimate() -> None:
    # Equal on average, but so unsteady that a difference above the margin cannot be excluded.
    rows = world({1: shifted(0.0001, wobble=0.01), 8: shifted(0)})
    assert rows[0]["delta_logloss"] < rows[0]["margin"] < rows[0]["delta_hi_simultaneous"]
    assert verdict(rows) == 8


def test_the_simultaneous_bound_is_that_of_all_comparisons() -> None:
    rows = world({1: shifted(0.001, wobble=0.001), 2: shifted(0.001), 4: shifted(0.001), 8: shifted(0)})
    gaps = np.array(shifted(0.001, wobble=0.001)) - np.array(BASE)
    found = rows[0]
    for level, lo, hi in (
        (0.95, found["delta_lo"], found["delta_hi"]),
        (1 - 0.05 / 3, found["delta_lo_simultaneous"], found["delta_hi_simultaneous"]),  # three k against the best
    ):
        expected = stats.t.interval(level, df=8, loc=gaps.mean(), scale=stats.sem(gaps))
        assert (lo, hi) == pytest.approx(expected)
    assert found["delta_hi"] < found["delta_hi_simultaneous"]


def test_the_bound_that_decides_is_the_simultaneous_one() -> None:
    # The gaps' standard error is 0.0009 / 3. t with 8 degrees of freedom: 2.306 alone, 3.016 for three comparisons, so
    # the bounds are 0.00079 and 0.00100; the margin of 0.00082 lies between them.
    rows = world({1: shifted(0.0001, wobble=0.0009), 2: shifted(0.01), 4: shifted(0.01), 8: shifted(0)})
    assert rows[0]["delta_hi"] < rows[0]["margin"] < rows[0]["delta_hi_simultaneous"]
    assert verdict(rows) == 8
    alone = world({1: shifted(0.0001, wobble=0.0009), 8: shifted(0)})
    assert verdict(alone) == 1


def test_the_best_against_itself_is_zero() -> None:
    best = world({1: shifted(0.1), 8: shifted(0)})[1]
    assert [best[name] for name in ("delta_logloss", "delta_lo", "delta_hi")] == [0, 0, 0]
    assert best["is_non_inferior"]


def test_pairing_removes_what_the_weeks_share() -> None:
    # The weeks differ by 0.04, the models by 0.003 in every one of them: the interval sees only the latter.
    found = world({1: shifted(0.003), 8: shifted(0)})[0]
    assert (found["delta_lo"], found["delta_hi"]) == pytest.approx((0.003, 0.003))


def test_the_verdict_does_not_depend_on_the_order_of_rows_or_models() -> None:
    losses = {1: shifted(0.002), 2: shifted(0.0004, 0.0001), 4: shifted(0.0001), 8: shifted(0)}
    cards = [card(k) for k in losses]
    rows = [row for of, loss in zip(cards, losses.values(), strict=True) for row in sums(of, loss)]
    expected = compare_k(rows, cards, 0.002, 1)
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        random.Random(seed).shuffle(cards)
        assert compare_k(rows, cards, 0.002, 1) == expected


def test_swapping_two_models_swaps_their_rows() -> None:
    one, other = shifted(0), shifted(0.01, 0.002)
    straight, swapped = world({1: one, 2: other}), world({1: other, 2: one})
    for name in ("delta_logloss", "delta_lo", "delta_hi", "is_non_inferior"):
        assert [row[name] for row in straight] == [row[name] for row in reversed(swapped)]
    assert (verdict(straight), verdict(swapped)) == (1, 2)


def test_one_test_period_has_no_interval_and_only_the_best_passes() -> None:
    rows = world({1: [0.4000001], 8: [0.4]})
    assert [rows[0][name] for name in ("delta_lo", "delta_hi", "delta_lo_simultaneous", "delta_hi_simultaneous")] == [
        None, None, None, None,
    ]  # fmt: skip
    assert verdict(rows) == 8
    assert rows[0]["n_periods"] == 1


def test_a_single_k_is_the_verdict() -> None:
    assert verdict(world({4: shifted(0)})) == 4


def test_only_ffm_models_and_only_test_rows_are_compared() -> None:
    prior, one, two = card(0, algorithm="prior"), card(1), card(2)
    rows = sums(prior, [0.1] * 9) + sums(one, shifted(0)) + sums(two, shifted(0.01))
    rows += sums(two, [0.0001] * 9, "valid") + sums(two, [0.0001] * 9, "calib")
    found = compare_k(rows, [prior, one, two], 0.002, 1)
    assert [row["model_id"] for row in found] == ["ffm-k1-s1", "ffm-k2-s1"]
    assert {row["best_k"] for row in found} == {1}


@pytest.mark.parametrize(("seeds", "provisional"), [(1, True), (4, True), (5, False)])
def test_a_verdict_on_few_seeds_says_that_it_is_provisional(seeds: int, provisional: bool) -> None:
    cards = [card(1, seed) for seed in range(1, seeds + 1)]
    rows = [row for of in cards for row in sums(of, shifted(0))]
    found = compare_k(rows, cards, 0.002, 1)
    assert {(row["n_seeds"], row["is_provisional"]) for row in found} == {(seeds, provisional)}


def test_rows_are_those_of_the_facts() -> None:
    cards = [card(1), card(2)]
    rows = [row for of in cards for row in sums(of, shifted(0))]
    by_entity = {"delta_lo_entity": -0.1, "delta_hi_entity": 0.1}  # jobs/evaluate.py adds them: they need the rows
    assert facts.table("k_comparison", [row | by_entity for row in compare_k(rows, cards, 0.002, 1)]).num_rows == 2
    metrics = with_intervals(rows, {(of["model_id"], "test"): (0.7, 0.1) for of in cards})
    assert facts.table("model_metrics", metrics).num_rows == 2


def test_metrics_are_sums_with_the_spread_of_the_periods() -> None:
    of = card(1)
    rows = sums(of, BASE) + sums(of, [0.5, 0.5], "calib", n=10)
    calib, test = with_intervals(rows, {(of["model_id"], "test"): (0.7, 0.1), (of["model_id"], "calib"): (None, None)})
    assert (calib["split"], calib["n"], calib["n_periods"], calib["auc"]) == ("calib", 20, 2, None)
    assert (test["n"], test["conversions"], test["n_periods"]) == (9 * N, 9 * N // 5, 9)
    assert test["sum_logloss"] == pytest.approx(N * sum(BASE))
    expected = stats.t.interval(0.95, df=8, loc=np.mean(BASE), scale=stats.sem(BASE))
    assert (test["logloss_lo"], test["logloss_hi"]) == pytest.approx(expected)
    # mean p 0.21 over a rate of 0.2 in every period: 1.05 without spread
    assert (test["calibration_ratio_lo"], test["calibration_ratio_hi"]) == pytest.approx((1.05, 1.05))


def test_no_conversion_has_no_calibration_ratio() -> None:
    rows = [row | {"conversions": 0} for row in sums(card(1), BASE)]
    assert calibration_interval(rows) == (None, None)


def seeded(losses: dict[int, list[list[float]]], **more: Any) -> list[dict[str, Any]]:
    """Of each k one list of losses per seed."""
    cards = [card(k, seed) for k, of in losses.items() for seed in range(1, len(of) + 1)]
    flat = [loss for of in losses.values() for loss in of]
    rows = [row for of, loss in zip(cards, flat, strict=True) for row in sums(of, loss)]
    return compare_k(rows, cards, 0.002, 1, **more)


def test_seeds_are_averaged_and_their_spread_is_in_the_interval() -> None:
    # Two seeds of k = 1 are worse than those of k = 8 by 0.001 and 0.003 in every week: the mean gap 0.002 has no
    # spread over weeks and a standard error of 0.001 over seeds (sd 0.001414 / sqrt 2) with 1 degree of freedom.
    first = seeded({1: [shifted(0.001), shifted(0.003)], 8: [shifted(0), shifted(0)]})[0]
    assert first["logloss"] == pytest.approx(np.mean(BASE) + 0.002)
    assert first["delta_logloss"] == pytest.approx(0.002)
    assert first["se_period"] == pytest.approx(0, abs=1e-15)
    assert first["se_seed"] == pytest.approx(0.001)
    expected = stats.t.interval(0.95, df=1, loc=0.002, scale=0.001)
    assert (first["delta_lo"], first["delta_hi"]) == pytest.approx(expected)
    assert (first["model_id"], first["n_seeds"]) == ("ffm-k1-s1", 2)


def test_both_errors_add_up_with_satterthwaites_degrees_of_freedom() -> None:
    # Gaps of the seeds: 0.001 and 0.003, each with the same wobble over the weeks, so the errors are independent.
    first = seeded({1: [shifted(0.001, 0.001), shifted(0.003, 0.001)], 8: [shifted(0), shifted(0)]})[0]
    weeks = stats.sem(np.array(shifted(0.002, 0.001)) - np.array(BASE))
    both = np.hypot(weeks, 0.001)
    freedom = both**4 / (weeks**4 / 8 + 0.001**4 / 1)
    expected = stats.t.interval(0.95, df=freedom, loc=first["delta_logloss"], scale=both)
    assert (first["delta_lo"], first["delta_hi"]) == pytest.approx(expected)


def test_one_seed_has_no_seed_error() -> None:
    assert world({1: shifted(0.001), 8: shifted(0)})[0]["se_seed"] is None


def test_a_night_with_few_seeds_keeps_the_verdict_of_the_last_sweep() -> None:
    day = dt.date(2017, 12, 4)
    losses = {1: [shifted(0)], 2: [shifted(0.02)], 8: [shifted(0.03)]}
    rows = seeded(losses, decided=Decided(2, day))
    assert verdict(rows) == 2
    assert {(row["is_provisional"], row["verdict_from"]) for row in rows} == {(False, day)}
    # A k that tonight's grid does not hold cannot be kept.
    rows = seeded(losses, decided=Decided(4, day))
    assert verdict(rows) == 1
    assert {(row["is_provisional"], row["verdict_from"]) for row in rows} == {(True, None)}


def test_a_night_with_enough_seeds_decides_itself() -> None:
    rows = seeded({1: [shifted(0)] * 5, 2: [shifted(0.02)] * 5}, decided=Decided(2, dt.date(2017, 12, 4)))
    assert verdict(rows) == 1
    assert {(row["is_provisional"], row["verdict_from"]) for row in rows} == {(False, None)}


def test_baselines_are_compared_paired_and_each_at_its_best_on_valid() -> None:
    ours, lr = card(4), card(0, algorithm="lr")
    fm = [card(0, algorithm="fm") | {"model_id": f"fm-{name}"} for name in ("worse", "better")]
    rows = sums(ours, shifted(0)) + sums(lr, shifted(0.01, 0.002)) + sums(lr, BASE, "valid")
    for of, valid, test in ((fm[0], 0.5, 0.02), (fm[1], 0.4, 0.03)):
        rows += sums(of, [valid] * 2, "valid") + sums(of, shifted(test))
    found = {row["algorithm"]: row for row in compare_baselines(rows, [ours, lr, *fm], ours["model_id"])}
    assert set(found) == {"fm", "lr"}
    assert found["fm"]["model_id"] == "fm-better"  # although it is worse on test
    gaps = np.array(shifted(0)) - np.array(shifted(0.01, 0.002))
    expected = stats.t.interval(0.95, df=8, loc=gaps.mean(), scale=stats.sem(gaps))
    assert (found["lr"]["delta_lo"], found["lr"]["delta_hi"]) == pytest.approx(expected)
    assert found["lr"]["delta_relative"] == pytest.approx(gaps.mean() / np.mean(shifted(0.01, 0.002)))
    assert facts.table("baseline_comparison", list(found.values())).num_rows == 2


def test_an_infeasible_k_is_shown_and_neither_chosen_nor_the_measure_of_others() -> None:
    """k = 8 is the best by far; without it k = 1 is within the margin of k = 4."""
    losses = {1: shifted(0.0002), 4: shifted(0), 8: shifted(-0.05)}
    cards = [card(k) for k in losses]
    rows = [row for of, loss in zip(cards, losses.values(), strict=True) for row in sums(of, loss)]
    found = compare_k(rows, cards, 0.002, 1, infeasible={8: "size_budget: 80, must be <= 64"})
    assert [row["k"] for row in found] == [1, 4, 8]
    assert {row["best_k"] for row in found} == {4}
    assert verdict(found) == 1
    assert [row["infeasible_reason"] for row in found] == [None, None, "size_budget: 80, must be <= 64"]
    assert verdict(compare_k(rows, cards, 0.002, 1)) == 8


def test_without_a_feasible_k_there_is_no_verdict() -> None:
    cards = [card(1), card(2)]
    rows = [row for of in cards for row in sums(of, shifted(0.01 * of["task"]["hyperparameters"]["k"]))]
    found = compare_k(rows, cards, 0.002, 1, infeasible={1: "size", 2: "size"})
    assert not any(row["is_verdict"] for row in found)
    assert shown(found)["k"] == 1  # what the night's other evidence is about: the best of them


def test_a_sweep_does_not_choose_a_k_that_breaks_a_limit_by_now() -> None:
    cards = [card(1), card(2)]
    rows = [row for of in cards for row in sums(of, shifted(0))]
    decided = Decided(2, dt.date(2017, 12, 18))
    assert verdict(compare_k(rows, cards, 0.002, 1, decided)) == 2
    assert verdict(compare_k(rows, cards, 0.002, 1, decided, {2: "size"})) == 1


def test_challenger_and_incumbent_are_paired_by_period() -> None:
    """Differences -.002 +- .0005 by week: the paired t interval of nine weeks, not that of either model."""
    ours, theirs = card(4), card(1)
    rows = sums(ours, shifted(-0.002, 0.0005)) + sums(theirs, BASE)
    found = compare_incumbent(rows, ours["model_id"], theirs["model_id"], 0.001)
    gaps = np.array(shifted(-0.002, 0.0005)) - np.array(BASE)
    lo, hi = stats.t.interval(0.95, df=8, loc=gaps.mean(), scale=stats.sem(gaps))
    assert (found["delta_logloss"], found["delta_lo"], found["delta_hi"]) == pytest.approx((gaps.mean(), lo, hi))
    assert found["delta_se"] == pytest.approx(stats.sem(gaps))
    assert found["margin"] == pytest.approx(0.001 * np.mean(BASE))
    swapped = compare_incumbent(rows, theirs["model_id"], ours["model_id"], 0.001)
    assert (swapped["delta_lo"], swapped["delta_hi"]) == pytest.approx((-hi, -lo))
    assert (found["n"], found["n_periods"]) == (9 * N, 9)
