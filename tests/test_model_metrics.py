"""What a task of the evaluation returns, against scikit-learn, scipy and numbers worked out by hand."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import judged_world
import numpy as np
import pytest
from scipy import special, stats
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, ndcg_score, roc_auc_score

from ffm_udf import clustered, model_metrics, predictions, score_deciles
from ffm_udf.judged_rows import JudgedRows, hashed, mixed
from ffm_udf.predictions import opened

SPLITS = {"valid": (10, 11), "calib": (12, 13), "test": (14, 17)}


@dataclasses.dataclass(frozen=True)
class World:
    """A random world: the task that opens it, its rows and `logits` [models, n]."""

    task: dict[str, Any]
    rows: JudgedRows
    logits: np.ndarray


def random_world(root: Path, eligible: bool = False, calibrators: list[dict] | None = None) -> World:
    """Eight periods of some 400 rows, 40 entities, 12 candidates; two models that see the true logits with noise."""
    rng = np.random.default_rng(0)
    counts = {number: 400 + number for number in range(10, 18)}
    n = sum(counts.values())
    entity, candidate = rng.integers(0, 40, n), rng.integers(0, 12, n)
    truth = rng.normal(-1.5, 0.8, 40)[entity] + rng.normal(0, 0.6, 12)[candidate] + rng.normal(0, 0.3, n)
    columns = {
        "y": (rng.random(n) < special.expit(truth)).astype(np.int8),
        "entity": entity.astype(np.uint64),
        "candidate": candidate.astype(np.uint64),
    }
    if eligible:
        columns["eligible"] = rng.random(n) < 0.7
    logits = np.stack([truth + rng.normal(0, sd, n) for sd in (0.2, 0.5)]).astype(np.float32)
    task = judged_world.write(root, columns, counts, SPLITS, list(logits))
    if calibrators:
        predictions.write(root / "predictions", "../logits", calibrators)
    return World(task, JudgedRows.open(task["judged"]), logits)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return random_world(tmp_path_factory.mktemp("judged"))


def test_sums_and_areas_of_every_period_are_scikit_learns(world):
    found = model_metrics.of_model(world.task | {"place": 1, "top_n": 5})
    assert [(row["split"], row["period_no"]) for row in found["periods"]] == [
        *(("valid", n) for n in (10, 11)),
        *(("calib", n) for n in (12, 13)),
        *(("test", n) for n in (14, 15, 16, 17)),
    ]
    p = special.expit(world.logits[1].astype(float))
    for row in found["periods"]:
        here = world.rows.periods[row["period_no"]]
        y, mine = world.rows.y[here], p[here]
        assert (row["n"], row["conversions"]) == (len(y), y.sum())
        assert row["sum_p"] == pytest.approx(mine.sum())
        assert row["sum_logloss"] / row["n"] == pytest.approx(log_loss(y, mine))
        assert row["sum_squared_error"] / row["n"] == pytest.approx(brier_score_loss(y, mine))
        assert row["auc"] == pytest.approx(roc_auc_score(y, mine))
        assert row["pr_auc"] == pytest.approx(average_precision_score(y, mine))
    [test] = [row for row in found["parts"] if row["split"] == "test"]
    span = world.rows.splits["test"]
    assert test["auc"] == pytest.approx(roc_auc_score(world.rows.y[span], p[span]))
    assert test["pr_auc"] == pytest.approx(average_precision_score(world.rows.y[span], p[span]))


def test_ranking_metrics_are_those_of_every_candidate(world):
    [row] = [
        row
        for row in model_metrics.of_model(world.task | {"place": 0, "top_n": 5})["periods"]
        if row["period_no"] == 15
    ]
    here = world.rows.periods[15]
    y, p, candidate = world.rows.y[here], world.logits[0][here], world.rows.candidate[here]
    ndcg, ap, captured = [], [], 0
    for group in np.unique(candidate):
        mine, score = y[candidate == group], p[candidate == group]
        captured += mine[np.argsort(-score)[:5]].sum()
        if not mine.any():
            continue
        ndcg.append(ndcg_score([mine], [score], k=5))
        hits = mine[np.argsort(-score)[:5]]
        ap.append((hits * np.cumsum(hits) / np.arange(1, len(hits) + 1)).sum() / min(5, mine.sum()))
    assert row["ranked_groups"] == len(ndcg)
    assert row["sum_ndcg"] == pytest.approx(sum(ndcg))
    assert row["sum_map"] == pytest.approx(sum(ap))
    assert (row["captured"], row["rankable"]) == (captured, y.sum())


def test_ranking_by_hand():
    # Two groups: conversions in places 1 and 3 of three, and in place 2 of two; the first two places count.
    found = model_metrics.ranking(np.array([1, 0, 1, 0, 1]), np.array([0, 3, 5]), 2)
    best = 1 + 1 / math.log2(3)
    assert found["sum_ndcg"] == pytest.approx(1 / best + (1 / math.log2(3)) / 1)
    assert found["sum_map"] == pytest.approx(1 / 2 + 1 / 2)  # (1/1) / min(2, 2) and (1/2) / min(2, 1)
    assert (found["captured"], found["rankable"], found["ranked_groups"]) == (2, 3, 2)


def test_a_group_without_a_conversion_counts_nowhere():
    found = model_metrics.ranking(np.array([0, 0, 1]), np.array([0, 2, 3]), 2)
    assert (found["ranked_groups"], found["sum_ndcg"], found["sum_map"]) == (1, 1.0, 1.0)


def test_only_eligible_rows_are_ranked(tmp_path: Path):
    world = random_world(tmp_path, eligible=True)
    rows, said = opened(world.task)
    span = rows.periods[14]
    y, starts = model_metrics.ranked(rows, span, said.p(0, span))
    assert len(y) == starts[-1] == rows.eligible[span].sum()
    assert y.sum() == rows.y[span][rows.eligible[span]].sum()


def test_ties_are_broken_by_chance_not_by_the_order_of_rows(world):
    rows = world.rows
    span = rows.periods[14]
    flat = np.zeros(span.stop - span.start)
    order = np.lexsort((rows.tie[span], rows.candidate[span]))
    y, _ = model_metrics.ranked(rows, span, flat)
    assert (y == rows.y[span][order]).all()


def test_periods_have_the_calibrator_in_force_then(tmp_path: Path):
    """Test periods 14 to 17 have their own, valid and calib the first one."""
    mine = {number: {"slope": 1.0, "intercept": float(number)} for number in range(14, 19)}
    world = random_world(tmp_path, calibrators=[mine, mine])
    rows, said = opened(world.task)
    for number, expected in ((10, 14), (13, 14), (14, 14), (15, 15), (17, 17)):
        span = rows.periods[number]
        np.testing.assert_allclose(said.p(0, span), special.expit(world.logits[0][span] + expected), rtol=1e-6)
    across = slice(rows.periods[14].stop - 3, rows.periods[15].start + 2)
    assert (np.diff(special.logit(said.p(0, across)) - world.logits[0][across]) > 0.5).tolist() == [
        False, False, True, False,
    ]  # fmt: skip


def test_the_clustered_error_is_the_spread_of_a_bootstrap_over_entities(world):
    found = clustered.difference(world.task | {"mine": [1], "theirs": [0]})
    test = world.rows.splits["test"]
    y, entity = world.rows.y[test], world.rows.entity[test].astype(int)

    def loss(place):
        p = special.expit(world.logits[place][test].astype(float))
        return -np.where(y > 0, np.log(p), np.log1p(-p))

    gap = loss(1) - loss(0)
    assert found["delta"] == pytest.approx(gap.mean())
    sums, n = np.bincount(entity, gap), np.bincount(entity)
    drawn = np.random.default_rng(1).multinomial(len(n), np.full(len(n), 1 / len(n)), 20_000)
    spread = ((drawn @ sums) / (drawn @ n)).std()
    assert found["se"] == pytest.approx(spread, rel=0.05)
    assert found["clusters"] == 40


def test_clusters_of_one_row_give_the_error_of_a_mean():
    values = np.random.default_rng(3).normal(size=200)
    found = clustered.ratio_error(values, np.arange(200))
    assert found["se"] == pytest.approx(stats.sem(values))


def test_deciles_of_the_score_are_even_on_calib(world):
    edges, found = score_deciles.of_model(world.task | {"place": 0, "bins": 10})
    assert len(edges) == 9
    calib = [row["n"] for row in found if row["period_no"] is None]
    assert max(calib) - min(calib) <= 1
    tested = sum(row["n"] for row in found if row["period_no"] is not None)
    test = world.rows.splits["test"]
    assert tested == test.stop - test.start


def test_a_key_has_the_same_hash_everywhere():
    import pyarrow as pa

    found = hashed(pa.array(["7", "8", "7", ""]))
    # BLAKE2b with 8 bytes of digest, little-endian.
    import hashlib

    expected = [int.from_bytes(hashlib.blake2b(t, digest_size=8).digest(), "little") for t in (b"7", b"8", b"7", b"")]
    assert found.tolist() == expected
    assert hashed(pa.array([], pa.string())).tolist() == []


def test_mixing_is_splitmix64():
    # The first output of SplitMix64 with state 0 (Vigna's reference code): 0xE220A8397B1DCDAF.
    assert mixed(np.zeros(1, np.uint64)).tolist() == [0xE220A8397B1DCDAF]


def test_damaged_rows_are_refused(tmp_path: Path):
    world = random_world(tmp_path)
    np.save(tmp_path / "judged" / "value.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"judged rows .* are damaged: \d+ rows are declared"):
        JudgedRows.open(world.task["judged"])
    with pytest.raises(FileNotFoundError, match=r"holds no judged rows: it has no judged\.json"):
        JudgedRows.open(tmp_path)
