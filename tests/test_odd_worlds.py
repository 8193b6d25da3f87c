"""Worlds in which something is missing reach the gate: no slices, one entity, one candidate, nobody who converts or may
be contacted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import judged_world
import numpy as np
import pytest
from scipy import special

from ffm_udf.judged_rows import JudgedRows
from jobs import facts, fairness, reliability, shrinkage, slices, value
from jobs.judged import Judged
from jobs.policies import load_value

CONF = Path(__file__).parent.parent / "conf"
SPLITS = {"valid": [1], "calib": [2], "test": [3, 4, 5, 6]}
ROWS = 120  # per period


def world(
    root: Path, columns: dict[str, Any] | None = None, ways: int = 1, test: tuple[int, ...] = (3, 4, 5, 6)
) -> Judged:
    """Four test periods, 40 entities, 6 candidates, `ways` declared slices that are groups of people too."""
    rng = np.random.default_rng(1)
    n = 6 * ROWS
    logit = rng.normal(-1, 1, n)
    y = (rng.random(n) < special.expit(logit)).astype(np.int8)
    entity, candidate = rng.integers(0, 40, n), rng.integers(0, 6, n)
    given: dict[str, Any] = {
        "y": y,
        "value": np.where(y == 1, 2.0, 0.0),
        "entity": entity.astype(np.uint64),
        "candidate": candidate.astype(np.uint64),
        "cost": np.full(n, 0.01),
        "X": np.column_stack([entity, 40 + candidate]).astype(np.int32),
        "slices": np.repeat(entity[:, None] % 2, ways, axis=1).astype(np.int32),
    }
    given |= columns or {}
    names = [f"s{i}" for i in range(ways)]
    numbers = [number for part in SPLITS.values() for number in part]
    ends = {part: (found[0], found[-1]) for part, found in (SPLITS | {"test": list(test)}).items()}
    counts = dict.fromkeys(numbers, ROWS)
    values = {name: ["a", "b"] for name in names}
    folders = judged_world.write(root, given, counts, ends, [logit, 0.5 * logit], values)
    rules = [SimpleNamespace(name=f"field_{i}", transform="categorical", columns=[f"c{i}"], of=()) for i in (0, 1)]
    contract = SimpleNamespace(
        **{"cost": "cost", "slice_min_n": 10, "min_count": 5, "fields": rules, "fairness": names, "entity": ["c0"]},
        prior=SimpleNamespace(entity="field_0", candidate_levels=("field_1",)),
        slices=[SimpleNamespace(name=name, column="group") for name in names],
        field_names=["field_0", "field_1"],
        grid=SimpleNamespace(shipping_seed=1),
    )
    cycle = judged_world.Tables(contract, {})
    cycle.rates(SPLITS | {"test": list(test)})
    cycle.tables["models"] = [
        {"model_id": "m", "role": "candidate", "algorithm": "ffm", "k": 1, "is_shipping_seed": True}
    ]
    cycle.tables["vocabulary"] = [{"field": "field_0", "value": str(i), "feature_id": i} for i in range(40)] + [
        {"field": "field_1", "value": str(i), "feature_id": 40 + i} for i in range(6)
    ]
    cycle.tables["vocabulary"] += [{"field": f"field_{i}", "value": None, "feature_id": 46 + i} for i in (0, 1)]
    return judged_world.local(cycle, folders, ["m", "prior"])


def everything(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """Every fact of the evaluation that is made of judged rows, checked against its schema."""
    store = JudgedRows.open(judged.task()["judged"]).store
    monkeypatch.setattr(slices.row_arrays, "opened", lambda _: store)
    monkeypatch.setattr(slices, "spans", lambda _: {"train": [1, 1]})
    places = {"m": 0, "prior": 1}
    found = slices.slice_facts(judged, places, "m")
    found |= value.value_facts(judged, 0, 1, None, load_value(CONF / "value.yml"))
    found |= fairness.fairness_facts(judged, 0, 20)
    found |= reliability.reliability_facts(judged, places)
    found |= shrinkage.shrinkage_facts(judged, "m")
    for name, rows in found.items():
        assert facts.table(name, rows).num_rows == len(rows)
    return found


def test_a_contract_without_slices_has_those_that_are_built_in(tmp_path, monkeypatch):
    found = everything(world(tmp_path, ways=0), monkeypatch)
    assert {row["slice_type"] for row in found["slice_metrics"]} == {"entity_seen", "candidate_seen", "rarest_feature"}
    assert (found["slice_discovery"], found["fairness"], found["fairness_proxy"]) == ([], [], [])


def test_one_entity_has_no_interval_by_entity(tmp_path, monkeypatch):
    X = np.column_stack([np.zeros(6 * ROWS), 40 + np.arange(6 * ROWS) % 6]).astype(np.int32)
    columns = {"entity": np.zeros(6 * ROWS, np.uint64), "slices": np.zeros((6 * ROWS, 1), np.int32), "X": X}
    found = everything(world(tmp_path, columns), monkeypatch)
    [row] = found["fairness"]
    assert (row["entities"], row["n"], row["calibration_ratio_lo_entity"], row["auc_lo"]) == (1, 4 * ROWS, None, None)
    assert row["calibration_ratio_lo"] is not None
    assert found["fairness_proxy"] == []
    [profit] = [row for row in found["value_comparison"] if (row["baseline"], row["objective"]) == ("prior", "profit")]
    assert profit["n_clusters"] == 1


def test_one_candidate_is_a_level_of_one_value(tmp_path, monkeypatch):
    X = np.column_stack([np.arange(6 * ROWS) % 40, np.full(6 * ROWS, 40)]).astype(np.int32)
    found = everything(world(tmp_path, {"candidate": np.zeros(6 * ROWS, np.uint64), "X": X}), monkeypatch)
    whole, only = found["slice_shrinkage"]
    assert (whole["n"], only["n"], only["value"]) == (4 * ROWS, 4 * ROWS, "0")
    # Of four periods the top 20 of the one candidate.
    assert {row["contacted"] for row in found["value_periods"] if row["policy"] == "model"} == {20}


def test_a_period_without_a_conversion_counts_as_one(tmp_path, monkeypatch):
    y = np.array((np.arange(6 * ROWS) % 3 == 0) & (np.arange(6 * ROWS) // ROWS != 3), np.int8)
    found = everything(world(tmp_path, {"y": y, "value": 2.0 * y}), monkeypatch)
    bought = [row["conversions"] for row in found["value_periods"] if row["policy"] == "perfect"]
    assert (len(bought), bought[1]) == (4, 0)
    assert {row["n_periods"] for row in found["slice_metrics"]} == {4}


def test_without_a_conversion_ratios_and_gains_are_none(tmp_path, monkeypatch):
    silent = {"y": np.zeros(6 * ROWS, np.int8), "value": np.zeros(6 * ROWS)}
    found = everything(world(tmp_path, silent), monkeypatch)
    assert {row["calibration_ratio_lo"] for row in found["slice_metrics"]} == {None}
    assert {(row["auc"], row["calibration_ratio_lo"]) for row in found["fairness"]} == {(None, None)}
    assert {row["conversions"] for row in found["value_periods"]} == {0}
    assert {row["vs_raw"] for row in found["shrinkage_gain"]} == {None}
    assert all(row["observed_rate"] == 0 for row in found["reliability_curve"])


def test_one_test_period_has_no_gain_to_measure(tmp_path, monkeypatch):
    found = everything(world(tmp_path, test=(6,)), monkeypatch)
    assert (found["shrinkage_gain"], found["slice_discovery"]) == ([], [])
    assert {row["squared_error_lo"] for row in found["calibration_error"]} == {None}


def test_where_nobody_may_be_contacted_there_is_no_value(tmp_path, monkeypatch):
    found = everything(world(tmp_path, {"eligible": np.zeros(6 * ROWS, bool)}), monkeypatch)
    assert {name: found[name] for name in value.FACTS} == {name: [] for name in value.FACTS}
    assert {(row["contacted"], row["captured"]) for row in found["fairness"]} == {(0, 0)}


def test_a_period_in_which_nobody_may_be_contacted_brings_nothing(tmp_path, monkeypatch):
    eligible = np.arange(6 * ROWS) // ROWS != 3
    found = everything(world(tmp_path, {"eligible": eligible}), monkeypatch)
    profits = [(row["contacted"], row["profit"]) for row in found["value_periods"] if row["policy"] == "model"]
    assert profits[1] == (0, 0)
    assert profits[0][0] > 0
