"""Shrunk slice ratios: by hand, against a plain loop, and on worlds where they must help or must not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import judged_world
import numpy as np
import pytest
from scipy import special

from jobs import facts, intervals, shrinkage
from jobs.shrinkage import Level

PERIODS, ROWS = 8, 12_000
SPANS = [slice(at * ROWS, (at + 1) * ROWS) for at in range(PERIODS)]


def world(seed: int, spread: float, weather: float = 0.0) -> tuple[np.ndarray, np.ndarray, list[Level]]:
    """p of about 5 %, 200 families in 10 categories whose log-odds are off by `spread` (a family) for good and by
    `weather` (a category) for a period."""
    rng = np.random.default_rng(seed)
    family = rng.integers(0, 200, PERIODS * ROWS).astype(np.int32)
    category = (family // 20).astype(np.int32)
    period = np.repeat(np.arange(PERIODS), ROWS)
    z = rng.normal(-3.2, 0.8, len(family))
    off = rng.normal(0, spread, 200)[family] + rng.normal(0, weather, (PERIODS, 10))[period, category]
    y = (rng.random(len(z)) < special.expit(z + off)).astype(np.int8)
    levels = [Level(shrinkage.WHOLE, np.zeros(len(z), np.int32)), Level("category", category), Level("family", family)]
    return special.expit(z), y, levels


def gains(p: np.ndarray, y: np.ndarray, levels: list[Level], level: str) -> dict[str, dict[str, Any]]:
    found = shrinkage.gain(p, y, levels, SPANS)
    return {row["correction"]: row for row in found if row["level"] == level}


def test_a_ratio_is_shrunk_to_its_parent_by_its_weight() -> None:
    """Six rows of p = 0.5: family 0 has 2 of 1 expected, family 1 1 of 2. All: 3 of 3 expected, ratio 1."""
    p, y = np.full(6, 0.5), np.array([1, 1, 0, 0, 0, 1], np.int8)
    levels = [Level("all", np.zeros(6, np.int32)), Level("family", np.array([0, 0, 1, 1, 1, 1], np.int32))]
    whole, family = shrinkage.fitted(p, y, levels, [1.0, 3.0])
    assert whole.shrunk.tolist() == [(3 + 1 * 1) / (3 + 1)]
    assert family.parent.tolist() == [1.0, 1.0]
    assert family.raw.tolist() == [2.0, 0.5]
    # weights 1/4 and 2/5: 2/4 + 3/4 and 0.5 · 2/5 + 3/5
    assert family.weight.tolist() == [0.25, 0.4]
    assert family.shrunk.tolist() == pytest.approx([1.25, 0.8])


def test_a_value_under_two_parents_has_their_mean() -> None:
    """Family 1 has one row in each category, whose ratios are 2 and 0 without shrinkage; p decides the weights."""
    p, y = np.array([0.5, 0.25, 0.75]), np.array([1, 0, 0], np.int8)
    levels = [Level("category", np.array([0, 0, 1], np.int32)), Level("family", np.array([0, 1, 1], np.int32))]
    category, family = shrinkage.fitted(p, y, levels, [0.0, 1.0])
    assert category.shrunk.tolist() == pytest.approx([1 / 0.75, 0.0])
    assert family.parent.tolist() == pytest.approx([1 / 0.75, 0.25 * (1 / 0.75)])


def test_strengths_are_those_of_a_plain_loop() -> None:
    p, y, levels = world(0, 0.6)
    p, y, spans = p[: 3 * ROWS], y[: 3 * ROWS], SPANS[:3]
    levels = [level.of(slice(0, 3 * ROWS)) for level in levels[:2]]
    found = shrinkage.strengths(p, y, levels, spans)
    chosen: list[float] = []
    for depth in range(2):
        missed = []
        for strength in shrinkage.STRENGTHS:
            total = 0.0
            for rows in spans[1:]:
                past = slice(0, rows.start)
                known = shrinkage.fitted(
                    p[past], y[past], [one.of(past) for one in levels[: depth + 1]], [*chosen, strength]
                )
                theta = shrinkage.corrections(known, [one.of(rows) for one in levels[: depth + 1]], ROWS)
                total += shrinkage.error(p[rows], y[rows], theta, levels[depth].ids[rows])
            missed.append(total)
        chosen.append(float(shrinkage.STRENGTHS[int(np.argmin(missed))]))
    assert found == chosen


def test_lasting_differences_are_corrected_and_shrinking_beats_raw_ratios() -> None:
    p, y, levels = world(1, 0.4)
    family = gains(p, y, levels, "family")
    assert family["shrunk"]["vs_none_hi"] < 0
    assert family["shrunk"]["vs_raw_hi"] < 0
    assert family["shrunk"]["error"] < min(family[name]["error"] for name in ("none", "whole", "raw"))


def test_without_differences_p_is_left_nearly_alone_where_raw_ratios_spoil_it() -> None:
    p, y, levels = world(2, 0.0)
    family = gains(p, y, levels, "family")
    assert family["raw"]["vs_none_lo"] > 0.1
    assert abs(family["shrunk"]["vs_none"]) < 0.05


def test_differences_of_one_period_are_not_carried_into_the_next() -> None:
    """What lasts a period only would look like a property of the category to a likelihood of its counts."""
    p, y, levels = world(3, 0.0, weather=0.5)
    category = gains(p, y, levels, "category")
    assert category["raw"]["vs_none"] > 0.1
    assert category["shrunk"]["vs_none"] < 0.5 * category["raw"]["vs_none"]


def test_gains_are_paired_over_the_later_half() -> None:
    p, y, levels = world(4, 0.4)
    found = gains(p, y, levels, "category")
    assert {(row["learned_periods"], row["n_periods"]) for row in found.values()} == {(4, 4)}
    known = shrinkage.fitted(p[: 4 * ROWS], y[: 4 * ROWS], [one.of(slice(0, 4 * ROWS)) for one in levels[1:2]], [0.0])
    ids = levels[1].ids
    raw, none = (
        np.array([shrinkage.error(p[rows], y[rows], theta[rows], ids[rows]) for rows in SPANS[4:]])
        for theta in (known[0].raw[ids], np.ones(len(p)))
    )
    expected = intervals.ratio(raw - none, none)
    row = found["raw"]
    assert (row["vs_none"], row["vs_none_lo"], row["vs_none_hi"]) == pytest.approx(
        (expected.value, expected.lo, expected.hi)
    )
    assert (found["none"]["vs_none"], row["vs_raw"]) == (0.0, 0.0)
    assert shrinkage.gain(p[:ROWS], y[:ROWS], levels, SPANS[:1]) == []


def test_where_nobody_converts_a_raw_ratio_has_no_error_to_compare_with() -> None:
    p, y = np.full(800, 0.01), np.zeros(800, np.int8)
    spans = [slice(at, at + 100) for at in range(0, 800, 100)]
    found = shrinkage.gain(p, y, [Level("all", np.zeros(800, np.int32))], spans)
    assert {(row["vs_raw"], row["vs_raw_lo"], row["vs_raw_hi"]) for row in found} == {(None, None, None)}
    rows = {row["correction"]: row for row in found}
    # A ratio of 0 of 400 rows foretells the later 400 without a miss; p as it is misses (0 - 1)² / 1 in each period.
    assert (rows["raw"]["error"], rows["raw"]["vs_none"]) == (0.0, -1.0)
    assert rows["none"]["error"] == pytest.approx(4.0)
    assert facts.table("shrinkage_gain", [{"model_id": "m", **row} for row in found]).num_rows == 4


def test_the_error_of_two_values_by_hand() -> None:
    # Value 0: 2 conversions, 0.5 expected, corrected 1: 1 / max(0.5, 1). Value 1: 0, 4 and 2: 4 / 4.
    p, y, theta = np.array([0.25, 0.25, 2.0, 2.0]), np.array([1, 1, 0, 0]), np.array([2.0, 2.0, 0.5, 0.5])
    assert shrinkage.error(p, y, theta, np.array([0, 0, 1, 1])) == pytest.approx(2.0)


def test_a_value_without_past_rows_gets_its_parents_correction() -> None:
    p, y = np.full(8, 0.5), np.array([1, 1, 1, 1, 0, 0, 0, 0], np.int8)
    levels = [
        Level("category", np.array([0, 0, 0, 0, 1, 1, 1, 1], np.int32)),
        Level("family", np.arange(8, dtype=np.int32) % 4),
    ]
    known = shrinkage.fitted(p, y, levels, [0.0, 0.0])
    fresh = [Level("category", np.array([0, 1, 7], np.int32)), Level("family", np.array([9, 9, 9], np.int32))]
    # Category 0 converts twice as often as expected, 1 never; 7 is as unknown as the family.
    assert shrinkage.corrections(known, fresh, 3).tolist() == [2.0, 0.0, 1.0]


def test_both_facts_of_a_model_with_values_never_seen_in_training(tmp_path: Path) -> None:
    p, y, levels = world(5, 0.5)
    unseen = np.random.default_rng(5).random(len(p)) < 0.1
    # Feature ids are of one numbering: categories 0 to 9, families 10 to 209, 210 for those never seen.
    X = np.stack([levels[1].ids, np.where(unseen, 210, levels[2].ids + 10)], axis=1).astype(np.int32)
    splits = {"valid": (0, 0), "calib": (1, 1), "test": (2, PERIODS - 1)}
    folders = judged_world.write(
        tmp_path, {"y": y, "X": X}, dict.fromkeys(range(PERIODS), ROWS), splits, [special.logit(p)]
    )
    words: list[dict[str, Any]] = [{"field": "field_0", "value": f"c{i}", "feature_id": i} for i in range(10)]
    words += [{"field": "field_1", "value": f"f{i}", "feature_id": 10 + i} for i in range(200)]
    words += [
        {"field": "field_0", "value": None, "feature_id": 211},
        {"field": "field_1", "value": None, "feature_id": 210},
    ]
    contract = SimpleNamespace(prior=SimpleNamespace(candidate_levels=("field_0", "field_1")))
    cycle = judged_world.Tables(contract, {"vocabulary": words})
    judged = judged_world.local(cycle, folders, ["m"])
    found = shrinkage.shrinkage_facts(judged, "m")
    rows = facts.table("slice_shrinkage", found["slice_shrinkage"]).to_pylist()
    assert facts.table("shrinkage_gain", found["shrinkage_gain"]).num_rows == 3 * 4
    assert [sum(row["n"] for row in rows if row["depth"] == depth) for depth in range(3)] == [6 * ROWS] * 3
    [whole] = [row for row in rows if row["depth"] == 0]
    assert (whole["level"], whole["value"], whole["parent_ratio"]) == ("all", "all", 1.0)
    assert whole["conversions"] == y[2 * ROWS :].sum()
    [cold] = [row for row in rows if row["is_unseen"]]
    assert (cold["level"], cold["value"], cold["n"]) == ("field_1", "never seen in training", unseen[2 * ROWS :].sum())
    for row in rows:
        mixed = row["weight"] * row["raw_ratio"] + (1 - row["weight"]) * row["parent_ratio"]
        assert row["shrunk_ratio"] == pytest.approx(mixed)
        assert row["weight"] == pytest.approx(row["sum_p"] / (row["sum_p"] + row["strength"]))
        assert row["raw_ratio"] == pytest.approx(row["conversions"] / row["sum_p"])
    assert {row["value"] for row in rows if row["depth"] == 1} == {f"c{i}" for i in range(10)}
