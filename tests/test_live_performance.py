"""Expected and realised of served scores: the sums, whose scores were live when, and what the intervals hold."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
import pytest
from small_world import CONF

from jobs import facts, live_performance, mart_sql
from jobs.contract import load
from jobs.decision_log import Entry
from jobs.periods import Periods

PROMO = load(CONF / "promo.yml")  # ad-weeks that begin on Mondays
PERIODS = Periods(PROMO, dt.date(2017, 12, 18))
WEEK = {day: PERIODS.number(dt.date.fromisoformat(f"2017-{day}")) for day in ("11-20", "11-27", "12-04", "12-11")}


def logged(kind: Any, seq: int, **payload: Any) -> Entry:
    return Entry(seq, "2026-11-22T00:00:00+00:00", kind, {"contract": "promo"} | payload, "", "")


def published(*names: str) -> list[Entry]:
    return [logged("publish", seq, release_id=f"promo-2017-{name}") for seq, name in enumerate(names, start=1)]


def live(log: list[Entry]) -> dict[str, str]:
    found = live_performance.live_releases(log, "promo", PERIODS)
    days = {number: day for day, number in WEEK.items()}
    return {days[number]: release.removeprefix("promo-2017-") for number, release in found.items()}


def test_each_period_has_the_release_published_for_it() -> None:
    assert live(published("11-27", "12-04", "12-11")) == {day: day for day in ("11-27", "12-04", "12-11")}


def test_a_period_without_a_release_was_served_the_one_before() -> None:
    assert live(published("11-20", "12-04")) == {"11-20": "11-20", "11-27": "11-20", "12-04": "12-04", "12-11": "12-04"}


def test_a_second_release_a_rollback_and_the_guard_change_what_was_live() -> None:
    first = published("11-27", "12-04")
    again = [*first, logged("publish", 3, release_id="promo-2017-12-04-2")]
    assert live(again)["12-04"] == "12-04-2"
    back = [*again, logged("rollback", 4, release_id="promo-2017-11-27")]
    assert live(back)["12-04"] == "11-27"
    left = [*again, logged("guard", 4, release_id="promo-2017-12-04-2", to="promo-2017-12-04")]
    assert live(left)["12-04"] == "12-04"
    nowhere = [*again, logged("guard", 4, release_id="promo-2017-12-04-2", to=None)]
    assert live(nowhere)["12-04"] == "12-04-2"  # there was nothing to go back to


def test_what_happens_after_the_next_release_does_not_change_the_period_before() -> None:
    log = [*published("11-27", "12-04"), logged("rollback", 3, release_id="promo-2017-11-27")]
    assert live([*log, logged("publish", 4, release_id="promo-2017-12-11")]) == {
        "11-27": "11-27", "12-04": "11-27", "12-11": "12-11"}  # fmt: skip


def at(moment: str, kind: Any, name: str) -> Entry:
    return Entry(1, f"2017-{moment}:00+00:00", kind, {"contract": "promo", "release_id": f"promo-2017-{name}"}, "", "")


def test_what_is_pointed_to_after_a_period_is_over_did_not_serve_it() -> None:
    """Ad-weeks end on Mondays at midnight in New York, 5:00 UTC."""
    in_time = [at("12-04T06:00", "publish", "12-04"), at("12-11T06:00", "publish", "12-11")]
    missed = [in_time[0], at("12-18T14:00", "publish", "12-11"), at("12-18T20:00", "publish", "12-18")]
    assert live(missed) == {"12-04": "12-04", "12-11": "12-04"}
    assert live([*in_time, at("12-18T09:00", "rollback", "12-04")]) == {"12-04": "12-04", "12-11": "12-11"}
    assert live([*in_time, at("12-18T04:59", "rollback", "12-04")])["12-11"] == "12-04"
    again = [*in_time, at("12-18T05:00", "publish", "12-04-2"), at("12-18T06:00", "publish", "12-11-2")]
    assert live(again) == {"12-04": "12-04", "12-11": "12-11"}


def test_history_run_again_counts_by_order_until_a_night_is_in_time() -> None:
    log = [at("12-11T06:00", "publish", "11-20"), at("12-11T07:00", "publish", "11-27")]
    log += [at("12-11T08:00", "publish", "12-04"), at("12-11T09:00", "publish", "12-11")]
    assert live(log) == {day: day for day in ("11-20", "11-27", "12-04", "12-11")}
    assert live([*log, at("12-18T09:00", "rollback", "11-20")]) == live(log)


def test_other_contracts_and_foreign_names_do_not_count() -> None:
    other = Entry(9, "2026-11-22T00:00:00+00:00", "publish", {"contract": "b", "release_id": "b-2017-12-11"}, "", "")
    assert live([*published("12-04"), other]) == {"12-04": "12-04", "12-11": "12-04"}
    assert live([logged("publish", 1, release_id="by hand")]) == {}


def test_sums_are_those_of_the_definition(spark: Any) -> None:
    """Three exposures of two entities meet a score, one is of another match; against numpy."""
    keys = ("entity_id", "match_id", "candidate_id")
    shown = spark.createDataFrame(
        [(7, "a", "m", "x", 1), (7, "a", "m", "y", 0), (7, "b", "m", "x", 0), (7, "b", "n", "x", 1)],
        f"period_no int, {', '.join(f'{key} string' for key in keys)}, y int",
    )
    scores = spark.createDataFrame(
        [(7, "a", "m", "x", 0.5), (7, "a", "m", "y", 0.2), (7, "b", "m", "x", 0.1), (8, "b", "n", "x", 0.9)],
        f"period_no int, {', '.join(f'{key} string' for key in keys)}, p float",
    )
    [row] = live_performance.sums_by_period(shown, scores).collect()
    p, y = np.float64(np.float32([0.5, 0.2, 0.1])), np.array([1, 0, 0])
    loss, entropy = -y * np.log(p) - (1 - y) * np.log(1 - p), -p * np.log(p) - (1 - p) * np.log(1 - p)
    assert (row["period_no"], row["n"], row["entities"], row["conversions"]) == (7, 3, 2, 1)
    assert row["sum_p"] == pytest.approx(p.sum())
    assert row["var_conversions"] == pytest.approx((p * (1 - p)).sum())
    assert row["sum_entropy"] == pytest.approx(entropy.sum())
    # a logloss is -ln p or -ln (1 - p): its variance is p (1 - p) times the square of their distance
    assert row["var_logloss"] == pytest.approx((p * (1 - p) * np.log((1 - p) / p) ** 2).sum())
    assert row["sum_logloss"] == pytest.approx(loss.sum())
    assert row["entity_sq_conversions"] == pytest.approx((1 - p[0] - p[1]) ** 2 + p[2] ** 2)
    surprise = loss - entropy
    assert row["entity_sq_logloss"] == pytest.approx((surprise[0] + surprise[1]) ** 2 + surprise[2] ** 2)


def estimated(p: np.ndarray, y: np.ndarray, entity: np.ndarray) -> list[dict[str, Any]]:
    """The mart over worlds (rows of y), each a contract of one period; p and entity are the same in each."""
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    same = {"period": dt.date(2026, 11, 2), "score_date": dt.date(2026, 11, 2), "release_id": "r", "model_id": "m"}
    same |= {"score_source": "model", "exposures": len(p), "n": len(p), "entities": len(set(entity))}
    same |= {"sum_p": p.sum(), "var_conversions": (p * (1 - p)).sum(), "sum_entropy": entropy.sum()}
    same |= {"var_logloss": (p * (1 - p) * np.log((1 - p) / p) ** 2).sum(), "is_mature": True}
    y = y.astype(float)
    loss = -y * np.log(p) - (1 - y) * np.log(1 - p)
    surprise, surprise_logloss = squares_by_entity(y - p, entity), squares_by_entity(loss - entropy, entity)
    rows = [
        same
        | {"contract": f"w{world:05d}", "conversions": int(y[world].sum()), "sum_logloss": loss[world].sum()}
        | {"entity_sq_conversions": float(surprise[world])}
        | {"entity_sq_logloss": float(surprise_logloss[world])}
        for world in range(len(y))
    ]
    return mart_sql.rows("fct_live_performance", {"live_performance": facts.table("live_performance", rows)})


def squares_by_entity(values: np.ndarray, entity: np.ndarray) -> np.ndarray:
    """Of each world (row): the sum over entities of the square of their sum of values."""
    order = np.argsort(entity, kind="stable")
    starts = np.flatnonzero(np.diff(entity[order], prepend=-1))
    return (np.add.reduceat(values[:, order], starts, axis=1) ** 2).sum(axis=1)


def poisson_binomial(p: np.ndarray) -> np.ndarray:
    """Its probabilities, by adding one exposure after the other."""
    found = np.ones(1)
    for one in p:
        found = np.convolve(found, [1 - one, one])
    return found


@pytest.mark.parametrize(("n", "mean"), [(400, 0.02), (2_000, 0.02), (300, 0.3), (2_000, 0.001), (60, 0.1)])
def test_the_interval_of_conversions_holds_what_it_says_in_simulation_and_exactly(n: int, mean: float) -> None:
    """4,000 worlds drawn from known p, and the exact probability of the interval. Stated: 95 %. The simulated share has
    a standard error of sqrt(.95 * .05 / 4000) = 0.34 %: three of them below 95 % at least."""
    rng = np.random.default_rng(n)
    p = rng.beta(1.0, 1.0 / mean - 1.0, n).clip(1e-6, 1 - 1e-6)
    y = rng.random((4_000, n)) < p
    rows = estimated(p, y, np.arange(n) % 50)
    assert np.mean([row["is_inside"] for row in rows]) >= 0.95 - 3 * 0.0034
    counts = np.arange(n + 1)
    inside = (counts >= rows[0]["expected_lo"]) & (counts <= rows[0]["expected_hi"])
    assert poisson_binomial(p)[inside].sum() >= 0.95


def test_the_interval_of_logloss_holds_what_it_says() -> None:
    """1,000 worlds of 2,000 exposures: a sum of many bounded terms, so nearly normal."""
    rng = np.random.default_rng(3)
    p = rng.beta(1.0, 30.0, 2_000).clip(1e-4, 1 - 1e-4)
    rows = estimated(p, rng.random((1_000, len(p))) < p, np.arange(len(p)) % 100)
    assert np.mean([row["is_logloss_inside"] for row in rows]) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 1_000)


def test_entities_that_vary_together_widen_the_next_interval_until_it_holds() -> None:
    """The odds of all exposures of an entity move together. Without the dispersion of the period before, the interval
    holds too little; with it, what it says."""
    rng = np.random.default_rng(4)
    entity, worlds = np.repeat(np.arange(200), 20), 1_000
    base = rng.beta(2.0, 38.0, len(entity)).clip(1e-3, 0.5)
    p = base.copy()
    draws = []
    for _ in range(2):  # two periods of each world
        push = rng.gamma(2.0, 0.5, (worlds, 200))[:, entity]  # mean 1, variance 0.5
        draws.append(rng.random((worlds, len(entity))) < np.minimum(p * push, 1.0))
    first, second = (estimated(p, y, entity) for y in draws)
    alone = np.mean([row["is_inside"] for row in second])
    assert alone < 0.93
    # Variance of an entity's count: that of independent ones and (sum of p)^2 / 2 from the push.
    by_entity = np.add.reduceat(p, np.arange(0, len(p), 20))
    true = 1 + (by_entity**2).sum() / 2 / (p * (1 - p)).sum()
    assert first[0]["dispersion"] == 1  # nothing is known before
    rows = two_periods(p, draws, entity)
    assert np.median([row["dispersion"] for row in rows]) == pytest.approx(true, rel=0.1)
    assert np.mean([row["is_inside"] for row in rows]) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / worlds)


def two_periods(p: np.ndarray, draws: list[np.ndarray], entity: np.ndarray) -> list[dict[str, Any]]:
    """The second period of each world, with the first before it."""
    entropy = (-p * np.log(p) - (1 - p) * np.log(1 - p)).sum()
    rows = []
    for week, y in enumerate(draws):
        squares = squares_by_entity(y - p, entity)
        rows += [
            {"contract": f"w{world:05d}", "period": dt.date(2026, 11, 2 + 7 * week), "release_id": "r", "model_id": "m"}
            | {"score_source": "model", "score_date": dt.date(2026, 11, 2), "exposures": len(p), "n": len(p)}
            | {"entities": 200, "sum_p": p.sum(), "var_conversions": (p * (1 - p)).sum(), "sum_entropy": entropy}
            | {"var_logloss": 1.0, "is_mature": True, "conversions": int(y[world].sum()), "sum_logloss": entropy}
            | {"entity_sq_conversions": float(squares[world]), "entity_sq_logloss": 1.0}
            for world in range(len(y))
        ]
    found = mart_sql.rows("fct_live_performance", {"live_performance": facts.table("live_performance", rows)})
    return [row for row in found if row["is_latest"]]


def test_a_model_that_is_off_is_found_outside() -> None:
    """Conversions are 1.5 times what p says, of 400 expected: ten standard errors."""
    rng = np.random.default_rng(5)
    p = rng.beta(1.0, 19.0, 8_000).clip(1e-4, 0.6)
    [row] = estimated(p, (rng.random((1, len(p))) < np.minimum(1.5 * p, 1)), np.arange(len(p)) % 100)
    assert row["is_inside"] is False
    assert row["calibration_ratio"] == pytest.approx(1 / 1.5, rel=0.1)
    assert row["realised_logloss"] > row["estimated_logloss_hi"]
