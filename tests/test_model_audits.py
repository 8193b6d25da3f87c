"""Age, domain shift, groups of people and field pairs against their definitions, on a world of known truth."""

from __future__ import annotations

import numpy as np
import pytest
from audited_world import N_FEATURES, write
from scipy import special, stats
from sklearn.metrics import log_loss, roc_auc_score
from small_world import CONF

from ffm_udf import FFM, card, domain_shift, field_pairs, group_sums, predictions
from ffm_udf.calibration import fit as fit_platt
from ffm_udf.model_ages import age_sums
from ffm_udf.row_store import RowStore, put
from jobs import fairness, model_age, proxy_audit
from jobs.contract import ContractError, load
from jobs.domain_shift import comparisons


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write(tmp_path_factory.mktemp("audited"), seed=1)


@pytest.fixture(scope="module")
def ffm(world):
    """Trained on the training periods of the world."""
    store = world.rows.store
    return FFM(k=3, epochs=3, patience=None).fit(store.X[: world.training[1]], store.y[: world.training[1]],
                                                 n_features=N_FEATURES)  # fmt: skip


@pytest.fixture
def folder(ffm, tmp_path):
    """The model as a training task leaves it."""
    ffm.save(tmp_path / "model")
    about = {"algorithm": "ffm", "model_id": "older", "fields": ["f0", "f1", "f2", "f3"]}
    about |= {"calibrator": {"slope": 1.0, "intercept": 0.0}, "files": card.checksums(tmp_path / "model")}
    card.write(tmp_path / "model", about)
    return str(tmp_path / "model")


# ---- field pairs ----


def by_hand(ffm, X):
    """Terms [n, T] of every row from `FFM.explain`, in the order of `importance`, and logits."""
    upper = np.triu_indices(X.shape[1], 1)
    found = [ffm.explain(row) for row in X]
    return np.array([[*e.linear, *e.pairs[upper]] for e in found]), np.array([e.logit for e in found])


KINDS = [(1, True, True, True), (5, False, True, False), (4, True, False, True), (16, True, True, True)]


@pytest.mark.parametrize(("k", "normalize", "linear", "bias"), KINDS)
def test_shares_are_those_of_every_rows_own_explanation(world, k, normalize, linear, bias):
    X, y = world.rows.store.X[:600], world.rows.store.y[:600]
    model = FFM(k=k, epochs=2, patience=None, normalize=normalize, linear=linear, bias=bias)
    model.fit(X, y, n_features=N_FEATURES)
    sums, totals = field_pairs.term_sums(model, X[:200])
    found = field_pairs.importance(["f0", "f1", "f2", "f3"], sums, totals)
    terms, logits = by_hand(model, X[:200])
    # Contributions sum to the logit that the model scores with.
    assert np.abs(logits - model.decision_function(X[:200])).max() < 1e-5
    covariance = ((terms - terms.mean(axis=0)) * (logits - logits.mean())[:, None]).mean(axis=0)
    assert [row["share"] for row in found] == pytest.approx((covariance / logits.var()).tolist(), abs=1e-9)
    assert [row["variance"] for row in found] == pytest.approx(terms.var(axis=0).tolist(), abs=1e-9)
    assert [row["mean_abs"] for row in found] == pytest.approx(np.abs(terms).mean(axis=0).tolist(), abs=1e-9)
    assert sum(row["share"] for row in found) == pytest.approx(1.0, abs=1e-9)
    names = [(row["field_a"], row["field_b"]) for row in found]
    assert names[:5] == [("f0", None), ("f1", None), ("f2", None), ("f3", None), ("f0", "f1")]
    assert len(names) == 4 + 6


def test_chunks_are_added_up(world, ffm, monkeypatch):
    whole = field_pairs.term_sums(ffm, world.rows.X[:500])
    monkeypatch.setattr(field_pairs, "CHUNK", 64)
    for one, other in zip(whole, field_pairs.term_sums(ffm, world.rows.X[:500]), strict=True):
        assert one == pytest.approx(other)


def test_equal_logits_have_no_spread_to_share(ffm, world):
    same = np.repeat(np.asarray(world.rows.X[:1]), 4, axis=0)
    found = field_pairs.importance(["f0", "f1", "f2", "f3"], *field_pairs.term_sums(ffm, same))
    assert max(abs(row["variance"]) for row in found) < 1e-12


def test_rows_are_drawn_by_seed_from_test_alone(world, ffm, folder):
    task = world.task | {"folder": folder, "limit": 300, "seed": 3}
    found = field_pairs.of_model(task)
    assert found == field_pairs.of_model(task)
    test = world.rows.splits["test"]
    drawn = np.sort(np.random.default_rng(3).choice(np.arange(test.start, test.stop), 300, replace=False))
    assert found[0]["n"] == 300
    assert found[0]["logit_variance"] == pytest.approx(ffm.decision_function(world.rows.X[drawn]).var(), rel=1e-5)


# ---- age ----


def test_both_versions_judge_the_same_rows_each_calibrated_before_them(world, folder, ffm):
    windows = {number: [number - 2, number - 1] for number in range(14, 18)}
    found = age_sums(world.task | {"place": 0, "folder": folder, "windows": windows})
    rows = world.rows
    older = np.array(world.logits[0])
    test = rows.splits["test"]
    older[test] = ffm.decision_function(rows.X[test])
    for number in range(14, 18):
        here = rows.periods[number]
        before = np.r_[rows.periods[number - 2], rows.periods[number - 1]]
        calibrator = fit_platt(older[before], rows.y[before])
        p = special.expit(calibrator.slope * older[here].astype(float) + calibrator.intercept)
        newer, mine = [row for row in found if row["period_no"] == number]
        assert (newer["version"], mine["version"], newer["n"]) == ("newer", "older", mine["n"])
        assert mine["sum_logloss"] == pytest.approx(log_loss(rows.y[here], p) * len(p), rel=1e-9)
        now = special.expit(world.logits[0][here].astype(float))
        assert newer["sum_logloss"] == pytest.approx(log_loss(rows.y[here], now) * len(now), rel=1e-6)
        assert newer["sum_p"] == pytest.approx(now.sum())


def test_effects_of_age_are_scipys():
    rng = np.random.default_rng(2)
    n, conversions = rng.integers(800, 1200, 6), rng.integers(40, 60, 6)
    newer, older = 200 + rng.normal(0, 5, 6), 205 + rng.normal(0, 5, 6)
    rows = []
    for i in range(6):
        for version, age, loss in (("newer", 1 + i, newer[i]), ("older", 5 + i, older[i])):
            rows.append({"version": version, "age_periods": age, "n": n[i], "conversions": conversions[i]}
                        | {"sum_logloss": loss})  # fmt: skip
    paired, course = model_age.effects(rows)
    value = (older - newer).sum() / newer.sum()
    ends = stats.t.interval(0.95, 5, loc=value, scale=stats.sem((older - newer - value * newer) / newer.mean()))
    assert (paired["kind"], paired["age_periods"], paired["n_periods"]) == ("paired", 4, 6)
    assert (paired["change"], paired["change_lo"], paired["change_hi"]) == pytest.approx((value, *ends))
    rate = conversions / n
    relative = newer / n / stats.entropy([rate, 1 - rate], axis=0)
    fit = stats.linregress(np.arange(1, 7), relative / relative.mean())
    assert (course["kind"], course["change"]) == ("course", pytest.approx(fit.slope))
    assert course["change_hi"] - course["change"] == pytest.approx(stats.t.ppf(0.975, 4) * fit.stderr)


# ---- domain shift ----


def rows_with(folder, moved):
    """30 entities, a field of 10 values, and one that is 5 more in periods from 4 on if `moved`."""
    rng = np.random.default_rng(4)
    counts = dict.fromkeys(range(8), 600)
    entity, plain, late = rng.integers(0, 30, 4800), rng.integers(0, 10, 4800), np.arange(4800) >= 2400
    third = rng.integers(0, 5, 4800) + 5 * (late & moved & (rng.random(4800) < 0.8))
    X = np.column_stack([entity, 30 + plain, 40 + third]).astype(np.int32)
    RowStore.create(folder, ["who", "plain", "moves"], counts)
    put(folder, 0, X, np.zeros(4800, np.int8))
    shared = {"rows": str(folder), "entity_column": 0, "n_features": 50, "seed": 1}
    found = domain_shift.separation(shared | {"periods": [4, 5, 6, 7], "others": [0, 1, 2, 3]})
    return {row["field"]: row["area"] for row in found}


def test_a_field_that_moved_is_named_and_its_size_is_what_was_made(tmp_path):
    found = rows_with(tmp_path / "rows", True)
    # 80 % of the late rows have values that no early row has; the others tell nothing: 0.8 + 0.2 / 2.
    assert found["moves"].value == pytest.approx(0.9, abs=0.02)
    assert found[None].value == pytest.approx(0.9, abs=0.03)
    assert found["plain"].value == pytest.approx(0.5, abs=0.04)
    # Whom a rate was not learned from it cannot tell apart.
    assert found["who"].value == 0.5


def test_without_a_shift_nothing_can_be_told_apart(tmp_path):
    found = rows_with(tmp_path / "rows", False)
    for field, area in found.items():
        assert abs(area.value - 0.5) <= max(4 * area.error, 1e-12), field


def test_the_reference_has_as_many_periods_and_no_time_between():
    found = comparisons(list(range(20)), [25, 26, 27])
    assert found == {
        "test": ([25, 26, 27], [17, 18, 19]),
        "alternate": ([15, 17, 19], [14, 16, 18]),
        "adjacent": ([27], [26]),
    }
    # With three training periods one against one is all that a reference can be made of.
    assert comparisons([0, 1, 2], [5, 6]) == {"test": ([6], [2]), "alternate": ([2], [1]), "adjacent": ([6], [5])}
    assert comparisons([0], [5]) == {}


# ---- groups of people ----


def test_groups_are_summed_as_by_hand(world):
    found = group_sums.group_sums(world.task | {"place": 0, "attributes": ["tier"], "top_n": 3})
    rows, test = world.rows, world.rows.splits["test"]
    y, entity = rows.y[test], rows.entity[test]
    p = special.expit(world.logits[0][test].astype(float))
    period = np.concatenate([np.full(414 + i, i) for i in range(4)])
    chosen = np.zeros(len(y), bool)
    for key in np.unique(np.column_stack([period, rows.candidate[test]]), axis=0):
        mine = np.flatnonzero((period == key[0]) & (rows.candidate[test] == key[1]))
        chosen[mine[np.argsort(-p[mine])[:3]]] = True
    assert [row["group"] for row in found] == ["a", "b", "c"]
    for code, row in enumerate(found):
        mine = entity % 3 == code
        assert row["sums"].sum(axis=0) == pytest.approx([mine.sum(), y[mine].sum(), p[mine].sum()])
        assert row["sums"][2] == pytest.approx([(mine & (period == 2)).sum(), y[mine & (period == 2)].sum(),
                                                p[mine & (period == 2)].sum()])  # fmt: skip
        assert row["entities"] == len(np.unique(entity[mine]))
        assert row["area"].value == pytest.approx(roc_auc_score(y[mine], p[mine]))
        assert (row["contacted"], row["captured"]) == (chosen[mine].sum(), y[mine & chosen].sum())
    assert sum(row["contacted"] for row in found) == 4 * 12 * 3


def test_contacts_are_ranked_by_raw_logit_where_a_calibrator_ties_them(world, tmp_path):
    (tmp_path / "predictions").mkdir()
    flat = {number: {"slope": 0.0, "intercept": -1.0} for number in range(14, 19)}
    predictions.write(tmp_path / "predictions", str(world.task["predictions"]) + "/../logits", [flat])
    asked = {"place": 0, "attributes": ["tier"], "top_n": 3}
    tied = group_sums.group_sums(world.task | asked | {"predictions": str(tmp_path / "predictions")})
    plain = group_sums.group_sums(world.task | asked)
    assert [(row["contacted"], row["captured"]) for row in tied] == [
        (row["contacted"], row["captured"]) for row in plain
    ]
    assert {row["area"].value for row in tied} == {0.5}


def test_the_error_of_a_ratio_is_that_of_its_clusters():
    """Against the jackknife over clusters, which agrees with the linearised error in large samples."""
    rng = np.random.default_rng(3)
    who = rng.integers(0, 300, 6000)
    p = rng.beta(2, 20, 6000) * (1 + 0.5 * (who % 3))
    y = (rng.random(6000) < p).astype(np.int8)
    left_out = [p[who != w].sum() / y[who != w].sum() for w in range(300)]
    jackknife = np.sqrt(299 / 300 * ((left_out - np.mean(left_out)) ** 2).sum())
    assert group_sums.ratio_error(p, y, who) == pytest.approx(jackknife, rel=0.02)
    assert group_sums.ratio_error(p, np.zeros(6000), who) is None
    assert group_sums.ratio_error(p, y, np.zeros(6000)) is None


def test_a_row_of_the_fact_has_both_intervals(world):
    [found, *_] = group_sums.group_sums(world.task | {"place": 0, "attributes": ["tier"], "top_n": 3})
    row = fairness.group_row(found)
    assert row["calibration_ratio_lo"] < row["sum_p"] / row["conversions"] < row["calibration_ratio_hi"]
    half = stats.t.ppf(0.975, row["entities"] - 1) * found["ratio_error"]
    assert row["calibration_ratio_hi_entity"] == pytest.approx(row["sum_p"] / row["conversions"] + half)
    silent = fairness.group_row(found | {"sums": found["sums"] * [1, 0, 1], "ratio_error": None, "area": None})
    assert (silent["conversions"], silent["calibration_ratio_lo"], silent["auc"]) == (0, None, None)


def proxied(folder, columns, monkeypatch):
    """What columns of X tell of the tier, in a world where f3 mostly is it and f2 is noise."""
    monkeypatch.setattr(proxy_audit, "LEAST", 5)
    world = write(folder, seed=2)
    X = np.array(world.rows.store.X)
    told = np.random.default_rng(1).random(len(X)) < 0.6
    X[told, 3] = 60 + X[told, 0] % 3
    np.save(folder / "rows" / "X.npy", X)
    return proxy_audit.guess_groups(world.task | {"attribute": "tier", "columns": columns, "seed": 1})


def test_a_field_that_gives_the_group_away_is_found(tmp_path, monkeypatch):
    found = proxied(tmp_path, [1, 2, 3], monkeypatch)
    assert [row["group"] for row in found] == ["a", "b", "c"]
    assert min(row["area"].value for row in found) > 0.95
    assert min(row["recall"] for row in found) > 0.8
    rows = fairness.proxy_rows(found)
    assert rows[0]["balanced_accuracy"] == pytest.approx(np.mean([row["recall"] for row in found]))


def test_without_it_nothing_is_given_away_even_by_the_entitys_own_key(tmp_path, monkeypatch):
    """The key names every entity, but whom it was not learned from it says nothing of."""
    for column, place in ((2, "noise"), (0, "key")):
        found = proxied(tmp_path / place, [column], monkeypatch)
        assert all(abs(row["area"].value - 0.5) < 4 * max(row["area"].error, 0.03) for row in found), place


def test_small_groups_are_not_guessed(world):
    assert proxy_audit.guess_groups(world.task | {"attribute": "tier", "columns": [1, 2], "seed": 1}) == []


def test_a_groups_own_field_and_the_key_are_no_proxies():
    contract = load(CONF / "promo.yml")
    assert contract.fairness == ("age", "income", "household_comp")
    names = {
        name: {contract.field_names[c] for c in fairness.proxy_columns(contract, name)} for name in contract.fairness
    }
    every = set(contract.field_names)
    assert every - names["age"] == {"household"}
    assert every - names["household_comp"] == {"household", "household_comp"}


def test_a_group_must_be_a_slice_of_a_column(tmp_path):
    path = tmp_path / "own.yml"
    path.write_text(f"extends: {CONF / 'promo.yml'}\nfairness: [household_seen]\n")
    with pytest.raises(ContractError, match=r"fairness may only name slices of a column \(.*age.*\), got 'household_"):
        load(path)
