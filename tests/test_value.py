"""Policies compared on the money they would have made, paired by period."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from jobs import facts
from jobs.policies import Value, load_value
from jobs.value import compare

CONF = Path(__file__).parent.parent / "conf"
EARNED = {"model": [5.0, 7.0, 6.0], "prior": [4.0, 6.0, 5.0], "random": [1.0, 4.0, 1.0]}


def periods(earned: dict[str, list[float]]) -> list[dict[str, Any]]:
    return [
        {
            "policy": policy,
            "period": dt.date(2017, 10, 30) + week * dt.timedelta(days=7),
            "conversions": amount,
            "sales_value": 10 * amount,
            "profit": amount - 3,
        }
        for policy, amounts in earned.items()
        for week, amount in enumerate(amounts)
    ]


@pytest.fixture
def policy() -> Value:
    return load_value(CONF / "value.yml")


def by_pair(rows: list[dict[str, Any]], objective: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["policy"], row["baseline"]): row for row in rows if row["objective"] == objective}


def test_totals_and_differences(policy: Value) -> None:
    rows = by_pair(compare(periods(EARNED), policy), "profit")
    # 18 - 9, 15 - 9 and 6 - 9
    assert (rows["model", "prior"]["total"], rows["model", "prior"]["baseline_total"]) == (9.0, 6.0)
    assert rows["model", "random"]["baseline_total"] == -3.0
    assert [rows[pair]["delta"] for pair in rows] == [3.0, 12.0, 9.0]


def test_the_interval_is_that_of_the_paired_differences(policy: Value) -> None:
    rows = by_pair(compare(periods(EARNED), policy), "sales_value")
    assert (rows["model", "prior"]["delta_lo"], rows["model", "prior"]["delta_hi"]) == pytest.approx(
        (30, 30)
    )  # 10 always
    gaps = 10 * (np.array(EARNED["model"]) - np.array(EARNED["random"]))  # 40, 30, 50
    expected = [3 * end for end in stats.t.interval(0.95, df=2, loc=gaps.mean(), scale=stats.sem(gaps))]
    assert [rows["model", "random"][end] for end in ("delta_lo", "delta_hi")] == pytest.approx(expected)


def test_every_objective_of_the_policy_and_no_other(policy: Value) -> None:
    assert len(compare(periods(EARNED), policy)) == 9
    only = policy.model_copy(update={"objectives": ("conversions",)})
    assert {row["objective"] for row in compare(periods(EARNED), only)} == {"conversions"}


def test_one_period_has_no_interval(policy: Value) -> None:
    rows = compare(periods({name: amounts[:1] for name, amounts in EARNED.items()}), policy)
    assert {(row["delta_lo"], row["delta_hi"], row["n_periods"]) for row in rows} == {(None, None, 1)}


def test_the_assumptions_travel_with_every_number(policy: Value) -> None:
    rows = compare(periods(EARNED), policy)
    assert facts.table("value_comparison", rows).num_rows == 9
    assert all("not an experiment" in row["assumption"] and "\n" not in row["assumption"] for row in rows)
