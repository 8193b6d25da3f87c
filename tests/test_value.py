"""Policies compared on the money they would have made: by hand, against scipy, and in worlds whose truth is known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import judged_world
import numpy as np
import pytest
from scipy import special, stats

from jobs import auction_utility, facts, value
from jobs.judged import Judged
from jobs.policies import Value, load_value

CONF = Path(__file__).parent.parent / "conf"
SPLITS = {"valid": [1], "calib": [2], "test": [3, 4, 5, 6]}
ROWS = 400  # per period


@pytest.fixture
def policy() -> Value:
    return load_value(CONF / "value.yml")


def world(root: Path, **columns: np.ndarray) -> Judged:
    """Six periods, 8 candidates, 50 entities; models that see the truth clearly (place 0), less so (1), hardly (2)."""
    rng = np.random.default_rng(11)
    numbers = [number for part in SPLITS.values() for number in part]
    n = ROWS * len(numbers)
    logit = rng.normal(-2, 1.5, n)
    y = (rng.random(n) < special.expit(logit)).astype(np.int8)
    given = {
        "y": y,
        "value": np.where(y == 1, rng.gamma(2, 2, n), 0.0),
        "candidate": rng.integers(0, 8, n).astype(np.uint64),
        "entity": rng.integers(0, 50, n).astype(np.uint64),
    }
    ends = {part: (found[0], found[-1]) for part, found in SPLITS.items()}
    logits = [logit, 0.5 * logit + rng.normal(-1, 1.0, n), 0.1 * logit + rng.normal(-2, 1.0, n)]
    folders = judged_world.write(root, given | columns, dict.fromkeys(numbers, ROWS), ends, logits)
    contract = SimpleNamespace(cost="cost" if "cost" in columns else None, slices=())
    cycle = judged_world.Tables(contract, {})
    cycle.rates(SPLITS)
    cycle.tables["models"] = [
        {"model_id": f"m{i}", "role": "candidate", "algorithm": "ffm", "k": 4 - i, "is_shipping_seed": True}
        for i in (0, 1)
    ]
    return judged_world.local(cycle, folders, ["m0", "m1", "prior"])


def by(rows: list[dict[str, Any]], *names: str) -> dict[tuple, dict[str, Any]]:
    return {tuple(row[name] for name in names): row for row in rows}


@pytest.fixture
def made(tmp_path: Path, policy: Value) -> dict[str, list[dict[str, Any]]]:
    return value.value_facts(world(tmp_path), 0, 2, 1, policy)


def test_every_fact_has_its_schema_and_its_assumption(made: dict[str, Any]) -> None:
    assert set(made) == set(value.FACTS)
    for name, rows in made.items():
        assert facts.table(name, rows).num_rows == len(rows)
        assert all("not an experiment" in row["assumption"] and "\n" not in row["assumption"] for row in rows), name
        assert rows or name == "auction_utility"  # this contract names no cost column
    said = made["value_periods"][0]["assumption"]
    assert "the 20 pairs of each candidate and period that are ranked highest (given)" in said
    assert "margin 0.25 of the sales value, 0.01 USD for a contact and 0.002 USD more where it does not convert" in said


def test_profit_is_margin_less_both_costs(made: dict[str, Any]) -> None:
    for row in made["value_periods"]:
        wrong = row["contacted"] - row["conversions"]
        expected = 0.25 * row["sales_value"] - 0.01 * row["contacted"] - 0.002 * wrong
        assert row["profit"] == pytest.approx(expected)
        assert row["contacted"] == 160  # 20 of each of 8 candidates
    assert {row["policy"] for row in made["value_periods"]} == {"model", "champion", "prior", "random", "perfect"}
    assert {row["model_id"] for row in made["value_periods"] if row["policy"] in ("random", "perfect")} == {None}


def test_comparisons_are_those_of_the_periods_and_their_intervals_scipys(made: dict[str, Any]) -> None:
    found = by(made["value_comparison"], "policy", "baseline", "objective")
    assert set(found) == {(*pair, name) for pair in value.PAIRS for name in ("conversions", "sales_value", "profit")}
    periods = by(made["value_periods"], "policy", "period")
    days = sorted({day for _, day in periods})
    for (name, baseline, objective), row in found.items():
        mine, theirs = (np.array([periods[who, day][objective] for day in days]) for who in (name, baseline))
        assert (row["total"], row["baseline_total"]) == pytest.approx((mine.sum(), theirs.sum()))
        ends = stats.ttest_1samp(mine - theirs, 0).confidence_interval(0.95)
        assert (row["delta_lo"], row["delta_hi"]) == pytest.approx((4 * ends.low, 4 * ends.high))
        assert row["delta_p5"] < row["delta"] < row["delta_p95"]
        assert row["total_p5"] < row["total_p50"] < row["total_p95"]
    assert found["model", "prior", "profit"]["delta_lo"] > 0
    assert found["model", "perfect", "profit"]["delta_hi"] < 0


def test_without_a_champion_nothing_is_compared_with_one(tmp_path: Path, policy: Value) -> None:
    made = value.value_facts(world(tmp_path), 0, 2, None, policy)
    for name in ("value_periods", "value_curve", "value_deciles", "value_comparison"):
        assert "champion" not in {row.get("policy") for row in made[name]} | {row.get("baseline") for row in made[name]}
    assert {row["baseline"] for row in made["value_sensitivity"]} == {"nobody", "prior", "random"}


def test_swapping_model_and_champion_flips_the_difference(tmp_path: Path, policy: Value) -> None:
    judged = world(tmp_path)
    there, back = (
        by(value.value_facts(judged, a, 2, b, policy)["value_comparison"], "policy", "baseline", "objective")
        for a, b in ((0, 1), (1, 0))
    )
    for objective in ("conversions", "sales_value", "profit"):
        one, other = (found["model", "champion", objective] for found in (there, back))
        assert one["delta"] == pytest.approx(-other["delta"])
        assert one["delta_lo"] == pytest.approx(-other["delta_hi"])
        assert one["delta_p5"] == pytest.approx(-other["delta_p95"], rel=0.02)  # both are drawn


def test_the_curve_goes_through_the_budget_and_ends_with_everybody(made: dict[str, Any]) -> None:
    totals = by(made["value_comparison"], "policy", "baseline", "objective")
    for name in ("model", "champion", "prior", "random", "perfect"):
        rows = [row for row in made["value_curve"] if row["policy"] == name]
        assert len(rows) <= 60
        [at] = [row for row in rows if row["is_target"]]
        assert at["budget"] == 20
        if name == "model":
            assert at["profit"] == pytest.approx(totals["model", "prior", "profit"]["total"])
            assert at["over_prior"] == pytest.approx(totals["model", "prior", "profit"]["delta"])
            assert at["over_random_lo"] == pytest.approx(totals["model", "random", "profit"]["delta_lo"])
        assert (rows[0]["contacted"], rows[0]["profit"]) == (0, 0)
        assert rows[-1]["contacted"] == rows[-1]["pairs"] == 4 * ROWS
        assert rows[-1]["conversions"] == rows[-1]["conversions_of_all"]
        ends = [f"over_{other}{end}" for other in ("random", "prior") for end in ("", "_lo", "_hi")]
        assert {rows[-1][end] for end in ends} == {0.0}  # the same contacts: exactly nothing, not what sums round to
        assert np.all(np.diff([row["contacts_per_period"] for row in rows]) > 0)


def test_profit_changes_its_sign_at_the_break_even(made: dict[str, Any], policy: Value) -> None:
    totals = by(made["value_comparison"], "policy", "baseline", "objective")
    found = by(made["value_sensitivity"], "baseline", "margin_rate", "contact_cost")
    assert len(found) == 4 * 7 * 8
    assumed = [row for row in made["value_sensitivity"] if row["is_assumed"]]
    assert {row["baseline"]: row["delta"] for row in assumed} == pytest.approx(
        {"nobody": totals["model", "prior", "profit"]["total"]}
        | {name: totals["model", name, "profit"]["delta"] for name in ("champion", "prior", "random")}
    )
    mine = [row for row in made["value_periods"] if row["policy"] == "model"]
    contacted, bought, sold = (sum(row[name] for row in mine) for name in ("contacted", "conversions", "sales_value"))

    def profit(margin: float, cost: float) -> float:
        return margin * sold - cost * contacted - 0.002 * (contacted - bought)

    for (baseline, margin, cost), row in found.items():
        if baseline == "nobody":
            assert row["delta"] == pytest.approx(profit(margin, cost))
            assert profit(margin, row["break_even_contact_cost"]) == pytest.approx(0, abs=1e-9)
            assert profit(row["break_even_margin"], cost) == pytest.approx(0, abs=1e-9)
        else:  # as many contacts: their cost cancels out
            assert row["break_even_contact_cost"] is None
            assert row["delta"] == pytest.approx(found[baseline, margin, 0]["delta"])


def test_k_are_compared_with_the_chosen_one(made: dict[str, Any]) -> None:
    found = by(made["value_by_k"], "k", "objective")
    totals = by(made["value_comparison"], "policy", "baseline", "objective")
    assert set(found) == {(k, name) for k in (3, 4) for name in ("conversions", "sales_value", "profit")}
    assert found[4, "profit"]["delta"] == 0
    against = totals["model", "champion", "profit"]  # the champion is the model of k = 3
    assert found[3, "profit"]["total"] == pytest.approx(against["baseline_total"])
    assert found[3, "profit"]["delta_hi"] == pytest.approx(-against["delta_lo"])


def test_a_calibrated_ranking_falls_by_decile(made: dict[str, Any]) -> None:
    rows = [row for row in made["value_deciles"] if row["policy"] == "model"]
    assert [row["n"] for row in rows] == [4 * ROWS // 10] * 10
    rates = [row["conversions"] / row["n"] for row in rows]
    assert rates[0] > 3 * rates[4] > 3 * rates[9]
    for row, rate in zip(rows, rates, strict=True):
        assert row["observed_rate_lo"] < rate < row["observed_rate_hi"]
        assert abs(row["sum_p"] - row["conversions"]) < 4 * np.sqrt(row["sum_p"])  # p is the truth here


def test_a_budget_that_is_not_given_is_chosen_before_the_test_periods(tmp_path: Path, policy: Value) -> None:
    free = policy.model_copy(update={"target": policy.target.model_copy(update={"n": None}), "contact_cost_usd": 0.2})
    judged = world(tmp_path)
    chosen = value.chosen_budget(judged, 0, free)
    curve = value.policy_sums(
        judged.task(policy="ranked", place=0, per="candidate", at=None, periods=[1, 2], clusters=False)
    )
    sums = curve["curve"].sum(axis=0)
    profit = 0.25 * sums[:, 2] - 0.2 * sums[:, 0] - 0.002 * (sums[:, 0] - sums[:, 1])
    assert chosen == curve["grid"][profit.argmax()]
    assert 0 < chosen < curve["grid"][-1]
    rows = value.value_facts(judged, 0, 2, None, free)["value_curve"]
    [at] = [row for row in rows if row["is_target"] and row["policy"] == "model"]
    assert at["budget"] == chosen
    assert "(the most profitable of the valid and calib periods)" in at["assumption"]
    # What happens in the test periods does not move it.
    other = tmp_path / "other"
    other.mkdir()
    n = ROWS * 6
    swapped = world(other, value=np.where(np.arange(n) < 2 * ROWS, np.load(tmp_path / "judged" / "value.npy"), 0.0))
    assert value.chosen_budget(swapped, 0, free) == chosen


def test_a_budget_per_period_is_spent_on_all_candidates(tmp_path: Path, policy: Value) -> None:
    judged = world(tmp_path)
    for numbers, contacts in (({"contacts_per_period": 90}, 90), ({"usd_per_period": 0.5}, 50)):
        target = type(policy.target)(kind="budget", **numbers)  # 0.5 USD buy 50 contacts at 0.01
        rows = value.value_facts(judged, 0, 2, None, policy.model_copy(update={"target": target}))["value_periods"]
        assert {row["contacted"] for row in rows} == {contacts}
        assert "pairs of each period that are ranked highest" in rows[0]["assumption"]


def test_where_no_contact_pays_nobody_is_contacted(tmp_path: Path, policy: Value) -> None:
    dear = policy.model_copy(update={"target": policy.target.model_copy(update={"n": None}), "contact_cost_usd": 1e3})
    made = value.value_facts(world(tmp_path), 0, 2, None, dear)
    assert {(row["contacted"], row["profit"]) for row in made["value_periods"]} == {(0, 0)}
    assert {(row["delta"], row["delta_p5"]) for row in made["value_comparison"]} == {(0, 0)}
    ends = [(row["break_even_margin"], row["break_even_contact_cost"]) for row in made["value_sensitivity"]]
    assert set(ends) == {(None, None)}


def test_one_test_period_has_no_interval(tmp_path: Path, policy: Value) -> None:
    judged = world(tmp_path)
    cycle: Any = judged.cycle
    cycle.rates(SPLITS | {"test": [3]})
    made = value.value_facts(judged, 0, 2, None, policy)
    for row in made["value_comparison"]:
        assert (row["delta_lo"], row["delta_hi"], row["n_periods"]) == (None, None, 1)
        assert row["total_p5"] < row["total_p95"]  # households can still be redrawn
    assert {row["delta_lo"] for row in made["value_sensitivity"]} == {None}
    assert all(facts.table(name, rows).num_rows == len(rows) for name, rows in made.items())


# ---- simulated auctions ----


def test_expected_utility_is_the_mean_over_drawn_competing_bids() -> None:
    rng = np.random.default_rng(5)
    cases = [(0.4, 3.0, 0.3), (0.1, 0.0, 0.3), (0.3, 0.5, 0.3), (2.0, 0.0, 0.01)]
    for beta in auction_utility.BETAS:
        for bid, gain, cost in cases:
            drawn = rng.gamma(beta * cost + 1, 1 / beta, 400_000)
            utility = np.where(drawn < bid, gain - drawn, 0.0)
            exact = auction_utility.expected_utility(*(np.array([x]) for x in (bid, gain, cost)), beta)[0]
            assert abs(utility.mean() - exact) < 4 * utility.std() / np.sqrt(len(drawn)) + 1e-6


def test_a_large_beta_gives_plain_utility_and_the_true_value_is_the_best_bid() -> None:
    bid, gain, cost = np.array([0.4, 0.1]), np.array([3.0, 3.0]), np.array([0.3, 0.3])
    sharp = auction_utility.expected_utility(bid, gain, cost, 1e7)
    assert sharp == pytest.approx(auction_utility.plain_utility(bid, gain, cost), abs=1e-3)
    assert auction_utility.plain_utility(bid, gain, cost).tolist() == pytest.approx([2.7, 0.0])
    # Of a pair worth 0.5 in expectation, 0.5 is the bid with the highest expected utility.
    bids = np.linspace(0.01, 2, 200)
    for beta in auction_utility.BETAS:
        earned = auction_utility.expected_utility(bids, np.full(200, 0.5), np.full(200, 0.45), beta)
        assert bids[earned.argmax()] == pytest.approx(0.5, abs=0.01)


def test_auctions_reward_the_model_that_knows_more(tmp_path: Path, policy: Value) -> None:
    rng = np.random.default_rng(2)
    judged = world(tmp_path, cost=rng.gamma(2, 0.05, ROWS * 6))
    rows = value.value_facts(judged, 0, 2, 1, policy)["auction_utility"]
    assert facts.table("auction_utility", rows).num_rows == 9
    found = by(rows, "policy", "beta")
    for beta in (None, 10.0, 1000.0):
        assert found["model", beta]["utility"] > found["champion", beta]["utility"] > found["prior", beta]["utility"]
        assert found["prior", beta]["delta"] == 0
    expected = found["model", 10.0]["utility"] - found["prior", 10.0]["utility"]
    assert found["model", 10.0]["delta"] == pytest.approx(expected)
    assert all("Nobody's bids react" in row["assumption"] for row in rows)


def test_auctions_without_a_cost_say_what_is_missing(tmp_path: Path) -> None:
    task = world(tmp_path).task(place=0, margin_rate=0.25, periods=[3])
    with pytest.raises(ValueError, match="the contract must name a column as `cost`"):
        auction_utility.auction_sums(task)
