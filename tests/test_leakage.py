"""Leakage: a planted one is found, an honest world has none, and the numbers are scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from audited_world import N_FEATURES, write
from rich.console import Console
from sklearn.metrics import roc_auc_score
from small_world import CONF
from typer.testing import CliRunner

from ffm_udf import field_scan
from ffm_udf.clustered_auc import Area, auc_difference, clustered_auc
from ffm_udf.field_scan import auc_of_counts, counts, held_out, scan, smoothed
from ffm_udf.leakage_models import canary, keys_only
from jobs import cli, leakage
from jobs.contract import load

TRAINING = [0, 2035]  # 400 + 5 … 400 + 9 rows of the five training periods


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write(tmp_path_factory.mktemp("honest"))


def planted(folder, when):
    """The same world with field f3 made of the label: right in 97 % of the rows that `when` says (bool by row)."""
    found = write(folder)
    store = found.rows.store
    rng = np.random.default_rng(5)
    told = np.where(rng.random(len(store.y)) < 0.97, store.y, 1 - store.y)
    X = np.array(store.X)
    kept = when(np.arange(len(told)))
    X[kept, 3] = 60 + told[kept]
    X[~kept, 3] = 60 + rng.integers(0, 2, (~kept).sum())
    np.save(folder / "rows" / "X.npy", X)
    return found


def task(world, **more):
    return world.task | {"place": 0, "training": TRAINING, "n_features": N_FEATURES} | more


# ---- the numbers ----


@pytest.mark.parametrize("seed", range(5))
def test_auc_and_placements_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    y, score = (rng.random(300) < 0.2).astype(np.int8), rng.integers(0, 12, 300) / 12
    found = clustered_auc(y, score, np.arange(300))
    assert found.value == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    other = rng.random(300)
    difference = auc_difference(y, score, other, np.arange(300))
    assert difference.value == pytest.approx(roc_auc_score(y, score) - roc_auc_score(y, other), abs=1e-12)


def test_error_of_unclustered_auc_is_delongs():
    """DeLong's variance from its definition: all pairs, no ranks."""
    rng = np.random.default_rng(1)
    y = (rng.random(200) < 0.3).astype(np.int8)
    score = rng.normal(0, 1, 200) + y
    wins = (score[y == 1][:, None] > score[y == 0]) + 0.5 * (score[y == 1][:, None] == score[y == 0])
    variance = wins.mean(axis=1).var(ddof=1) / (y == 1).sum() + wins.mean(axis=0).var(ddof=1) / (y == 0).sum()
    # Both differ by the factors n / (n - 1) of their sample variances only.
    assert clustered_auc(y, score, np.arange(200)).error == pytest.approx(np.sqrt(variance), rel=0.01)


def test_rows_that_are_doubled_within_their_cluster_tell_nothing_new():
    rng = np.random.default_rng(2)
    y, score, who = (rng.random(400) < 0.3).astype(np.int8), rng.random(400), np.repeat(np.arange(80), 5)
    once, twice = clustered_auc(y, score, who), clustered_auc(*(np.tile(a, 2) for a in (y, score, who)))
    assert (once.value, once.error, once.clusters) == pytest.approx((twice.value, twice.error, twice.clusters))
    alone = clustered_auc(np.tile(y, 2), np.tile(score, 2), np.arange(800))
    assert alone.error < once.error


def test_one_class_has_no_auc():
    assert clustered_auc(np.zeros(5), np.arange(5), np.arange(5)) is None
    assert auc_difference(np.ones(5), np.arange(5), np.arange(5), np.arange(5)) is None


def test_auc_of_counts_is_that_of_the_rows(world):
    store = world.rows.store
    n, c = counts(store.X[:, 1], store.y, N_FEATURES)
    assert (n.sum(), c.sum()) == (len(store.y), store.y.sum())
    rate = smoothed(n, c)
    # (c + 20 · base) / (n + 20) of the first feature that there is
    first = int(np.flatnonzero(n)[0])
    assert rate[first] == pytest.approx((c[first] + 20 * store.y.mean()) / (n[first] + 20))
    assert auc_of_counts(rate, n, c) == pytest.approx(roc_auc_score(store.y, rate[store.X[:, 1]]), abs=1e-12)
    assert np.isnan(auc_of_counts(rate, n, np.zeros(N_FEATURES)))


def test_counts_of_some_columns_in_chunks_are_those_of_the_rows(world, monkeypatch):
    store = world.rows.store
    monkeypatch.setattr(field_scan, "CHUNK", 100)
    n, c = counts(store.X, store.y, N_FEATURES, [3, 1])
    for feature in range(N_FEATURES):
        mine = (store.X[:, [1, 3]] == feature).any(axis=1)
        assert (n[feature], c[feature]) == (mine.sum(), store.y[mine].sum())
    assert n.sum() == 2 * len(store.y)


def test_scan_learns_on_training_rows_and_judges_later_ones(world):
    rows = world.rows
    found = scan(task(world))
    kept = held_out(rows)
    assert kept.min() >= rows.splits["valid"].start
    assert kept.max() < rows.splits["test"].start
    training = slice(*TRAINING)
    rate = smoothed(*counts(rows.store.X[training, 0], rows.store.y[training], N_FEATURES))
    expected = roc_auc_score(rows.y[kept], rate[rows.X[kept, 0]])
    assert found["fields"][0]["area"].value == pytest.approx(expected, abs=1e-12)
    assert found["model"].value == pytest.approx(roc_auc_score(rows.y[kept], world.logits[0][kept]), abs=1e-12)


# ---- what must be found, and what must not ----


def outcome(found):
    rows = leakage.field_rows(found)
    return {(row["audit"], row["subject"]) for row in rows if not row["passed"]}


def test_an_honest_world_has_no_leak(world):
    assert outcome(scan(task(world))) == set()


def test_a_field_made_of_the_label_is_found(tmp_path):
    leaking = planted(tmp_path, lambda row: row >= 0)
    found = scan(task(leaking))
    assert outcome(found) == {("field_alone", "f3")}
    [row] = [r for r in leakage.field_rows(found) if (r["audit"], r["subject"]) == ("field_alone", "f3")]
    assert row["value_lo"] > row["allowed"]


def test_a_field_that_knew_the_label_in_training_only_is_found(tmp_path):
    """As a history does that was made after the labels were known: it tells nothing of rows that are new."""
    leaking = planted(tmp_path, lambda row: row < TRAINING[1])
    assert outcome(scan(task(leaking))) == {("field_fallen", "f3")}


def test_a_history_that_counts_its_own_row_is_found(tmp_path):
    """Buckets of the conversions per entity and candidate, the row's own among them."""
    found = write(tmp_path)
    store = found.rows.store
    X, pair = np.array(store.X), store.X[:, 0] * 100 + store.X[:, 1]
    so_far = np.zeros(len(pair), np.int64)
    total: dict[int, int] = {}
    for row, key in enumerate(pair.tolist()):
        total[key] = total.get(key, 0) + int(store.y[row])
        so_far[row] = total[key]
    seen = np.zeros(len(pair), np.int64)
    times: dict[int, int] = {}
    for row, key in enumerate(pair.tolist()):
        times[key] = times.get(key, 0) + 1
        seen[row] = times[key]
    honest = np.array(X)
    X[:, 3] = 60 + np.minimum(so_far, 7) * 8 + np.minimum(seen, 7)
    honest[:, 3] = 60 + np.minimum(so_far - store.y, 7) * 8 + np.minimum(seen, 7)
    areas = []
    for columns in (X, honest):
        np.save(tmp_path / "rows" / "X.npy", columns)
        areas.append({f["field"]: f["area"].value for f in scan(task(found))["fields"]}["f3"])
    assert areas[0] > areas[1] + 0.1
    np.save(tmp_path / "rows" / "X.npy", X)
    # Against a model as good as the honest fields allow.
    assert ("field_alone", "f3") in outcome(scan(task(found, place=1)))


def test_shuffled_labels_rank_like_chance(world):
    found = leakage.check(task(world, check="canary"))
    row = leakage.canary_row(found)
    assert row["passed"]
    assert row["value_lo"] < 0.5 + leakage.CHANCE
    assert row["value_hi"] > 0.5 - leakage.CHANCE
    assert f"{leakage.SHUFFLES} shuffles, standard deviation {np.std(found, ddof=1):.3f}" in row["why"]


def not_shuffled(labels, rng):
    return labels


def half_shuffled(labels, rng):
    found, some = np.array(labels), rng.random(len(labels)) < 0.5
    found[some] = rng.permutation(found[some])
    return found


@pytest.mark.parametrize("shuffle", [not_shuffled, half_shuffled])
def test_labels_that_are_not_or_half_shuffled_fail_the_canary(world, shuffle):
    """Also in this small world: 2,035 training rows, 12 candidates."""
    found = leakage.canary_row(canary(task(world, seeds=range(1, leakage.SHUFFLES + 1)), shuffle))
    assert found["passed"] is False
    assert found["value_lo"] > 0.5 + leakage.CHANCE


def test_the_canary_fails_where_its_whole_interval_is_off_chance():
    # Means 0.61, 0.39, 0.55 and 0.55; half intervals of 4.303 · sd / √3: 0.025, 0.025, 0.025 and 0.124.
    cases = {False: [0.6, 0.61, 0.62], True: [0.5, 0.55, 0.6]}
    for passed, areas in cases.items():
        assert leakage.canary_row(areas)["passed"] is passed
        assert leakage.canary_row([1 - area for area in areas])["passed"] is passed
    found = leakage.canary_row([0.54, 0.55, 0.56])
    assert (found["value_lo"], found["value_hi"]) == pytest.approx((0.55 - 0.024841, 0.55 + 0.024841), abs=1e-5)
    assert found["passed"] is False
    assert leakage.canary_row([0.6])["passed"] is None  # no spread is seen
    assert leakage.canary_row([])["passed"] is None


def test_keys_are_compared_with_the_model_on_the_same_rows(world):
    found = keys_only(task(world, columns=[0, 1], seed=1))
    rows = world.rows
    kept = held_out(rows)
    full = roc_auc_score(rows.y[kept], world.logits[0][kept])
    assert found["gain"].value == pytest.approx(full - found["area"].value, abs=1e-12)
    assert 0.55 < found["area"].value < full  # entity and candidate are most of the truth
    [row] = leakage.key_rows(found, ["f0", "f1"])
    assert (row["subject"], row["passed"]) == ("f0 + f1", row["value"] > leakage.KEYS_GAIN)


def test_the_keys_of_promo_are_household_and_family():
    contract = load(CONF / "promo.yml")
    columns = leakage.key_columns(contract, contract.field_names)
    assert [contract.field_names[column] for column in columns] == ["household", "family"]


def test_failures_are_printed_first_and_said(world):
    rows = [
        {"model_id": "m", **leakage.canary_row([0.5, 0.5])},
        {"model_id": "m", **leakage.canary_row([0.7, 0.7])},
    ]
    console = Console(record=True, width=160)
    assert leakage.show(rows, console) is False
    text = console.export_text()
    assert text.index("NO") < text.index("yes")
    assert "must rank like chance" in text
    assert leakage.show(rows[:1], Console(quiet=True))


def test_a_fall_must_be_sure_and_large():
    def rows(value, error, within):
        return leakage.field_rows(
            {"model": None, "fields": [{"field": "f", "area": Area(value, error, 1000), "within": within}]}
        )

    # 1.96 errors of 0.01 reach from 0.1 to 0.08, those of 0.06 below 0; 0.04 is under the limit however sure.
    outcomes = [rows(0.7, error, within)[1]["passed"] for error, within in ((0.01, 0.8), (0.06, 0.8), (0.001, 0.74))]
    assert outcomes == [False, True, True]
    assert rows(0.96, 0.01, float("nan"))[0]["passed"] is False
    assert rows(0.96, 0.01, float("nan"))[1]["passed"] is None


# ---- through the pipeline ----


@pytest.mark.slow
def test_a_leak_planted_in_the_rows_of_a_night_ends_the_command_with_1(own_night, spark):
    cycle, runner = own_night.cycle, CliRunner()
    options = ["audit-leakage", "--contract", str(own_night.contract), "--warehouse", str(cycle.warehouse)]
    before = runner.invoke(cli.app, options)
    assert "field_alone" in before.output
    rows = cycle.dataset("rows")
    folder = rows.root
    X, y = np.load(folder / "X.npy"), np.load(folder / "y.npy")
    column = cycle.contract.field_names.index("ad_size")
    ids = np.unique(X[:, column])[:2]
    X[:, column] = ids[np.where(np.random.default_rng(1).random(len(y)) < 0.98, y, 1 - y)]
    np.save(folder / "X.npy", X)
    after = runner.invoke(cli.app, options)
    assert after.exit_code == 1
    assert any("ad_size" in line and " NO" in line for line in after.output.splitlines())
