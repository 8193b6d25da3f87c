"""Beta, isotonic and Venn-Abers against scipy, scikit-learn and their own definitions; and as served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_task import training_task
from scipy import optimize, special
from sklearn.isotonic import IsotonicRegression
from test_score import small_block

from ffm_udf import calibration, score_blocks, workers
from ffm_udf import calibration_methods as methods
from ffm_udf.calibration import AnyCalibrator, Beta, Calibrator, Table
from ffm_udf.scoring import ScoringModel
from jobs import train

DAYS = {"train_from": "2017-01-02", "train_through": "2017-01-16"}
BENT = [method for method in methods.METHODS if method != "platt"]


def draw(seed: int, n: int = 4000, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a rare event whose true log-odds bend: flat below -4, steeper above."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-3.0, 1.2, n).astype(np.float32)
    z = np.round(z, 1) if ties else z
    return z, (rng.random(n) < special.expit(np.maximum(z, -4.0) * 1.2 + 0.4)).astype(np.int8)


@pytest.fixture(scope="module", params=methods.METHODS)
def fitted(request: pytest.FixtureRequest) -> AnyCalibrator:
    return methods.fit(request.param, *draw(1))


def test_a_calibrator_is_the_same_after_json(fitted: AnyCalibrator) -> None:
    text = json.dumps(calibration.as_dict(fitted))
    assert calibration.load(text) == fitted == calibration.load(json.loads(text))
    assert len(text) < 20_000


def test_a_dict_without_a_method_is_platts() -> None:
    assert calibration.load({"slope": 0.5, "intercept": 1.0}) == Calibrator(0.5, 1.0)
    assert calibration.as_dict(Calibrator(0.5, 1.0)) == {"slope": 0.5, "intercept": 1.0}
    with pytest.raises(ValueError, match="method must be platt, beta, isotonic or venn_abers, got 'spline'"):
        calibration.load({"method": "spline"})
    with pytest.raises(ValueError, match="method must be one of platt, beta, isotonic, venn_abers, got 'spline'"):
        methods.fit(cast(Any, "spline"), *draw(1))


def test_order_is_kept_and_p_is_never_certain(fitted: AnyCalibrator) -> None:
    z = np.linspace(-30, 30, 5001).astype(np.float32)
    p, quick = fitted(z), fitted.float32(z)
    assert (np.diff(p) >= 0).all()
    assert (np.diff(quick) >= 0).all()
    for found in (p, quick):
        assert (found > 0).all()
        assert (found < 1).all()
    assert quick.dtype == np.float32
    np.testing.assert_allclose(quick, p, rtol=2e-5)
    block = z[:5000].reshape(50, 100)
    np.testing.assert_array_equal(fitted.float32(block).reshape(-1), quick[:5000])


def test_inverse_leads_back_to_the_log_odds(fitted: AnyCalibrator) -> None:
    wanted = np.linspace(-8.0, 4.0, 97)
    np.testing.assert_allclose(fitted.logit(fitted.inverse(wanted)), wanted, atol=1e-6)


@pytest.mark.parametrize("method", methods.METHODS)
def test_one_class_changes_nothing(method: methods.Method) -> None:
    z = draw(1)[0]
    assert methods.fit(method, z, np.zeros(len(z), np.int8)) == Calibrator()
    assert methods.fit(method, z[:0], np.zeros(0, np.int8)) == Calibrator()


def beta_loss(weights: np.ndarray, z: np.ndarray, y: np.ndarray) -> float:
    q = special.expit(z.astype(np.float64))
    logit = weights[0] * np.log(q) - weights[1] * np.log1p(-q) + weights[2]
    return float((np.logaddexp(0, logit) - y * logit).mean())


@pytest.mark.parametrize("seed", range(5))
def test_beta_has_the_least_loss_that_its_bounds_allow(seed: int) -> None:
    z, y = draw(seed)
    found = methods.fit("beta", z, y)
    assert isinstance(found, Beta)
    bounds, start = [(0, None), (0, None), (None, None)], np.array([1.0, 1.0, 0.0])
    other = optimize.minimize(beta_loss, start, (z, y), "L-BFGS-B", bounds=bounds, options={"ftol": 1e-15})
    mine = beta_loss(np.array([found.a, found.b, found.c]), z, y)
    assert mine <= other.fun + 1e-9
    assert min(found.a, found.b) >= 0
    logit = found.logit(z)
    assert (np.logaddexp(0, logit) - y * logit).mean() == pytest.approx(mine)


def test_beta_keeps_the_order_where_the_labels_ask_for_the_other_one() -> None:
    z, y = draw(2)
    found = methods.fit("beta", -z - 6, y)
    assert isinstance(found, Calibrator)
    assert found.slope == 1.0


@pytest.mark.parametrize("ties", [False, True])
def test_isotonic_is_scikit_learns_but_for_certainty(ties: bool) -> None:
    z, y = draw(3, 600, ties)
    found = methods.fit("isotonic", z, y)
    other = IsotonicRegression(out_of_bounds="clip").fit(z.astype(np.float64), y).predict(z.astype(np.float64))
    inside = (other > 0) & (other < 1)
    assert inside.sum() > 100
    np.testing.assert_allclose(found(z)[inside], other[inside], rtol=1e-6)
    # Without a conversion in n rows p is at most 1 / 2 (n + 1).
    low = other == 0
    np.testing.assert_allclose(found(z)[low], 0.5 / (low.sum() + 1), rtol=1e-6)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 1)), min_size=2, max_size=40))
def test_pooling_is_scikit_learns_isotonic_regression(rows: list[tuple[int, int]]) -> None:
    x, weight, positive = methods.grouped(np.array([z for z, _ in rows]), np.array([y for _, y in rows]))
    other = IsotonicRegression().fit(x, positive / weight, sample_weight=weight).predict(x)
    np.testing.assert_allclose(methods.isotonic(weight, positive), other, atol=1e-12)


def test_a_table_of_many_blocks_is_bounded_and_keeps_its_mean() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(-1, 2, 200_000)
    y = (rng.random(len(z)) < special.expit(z)).astype(np.int8)
    found = methods.fit("isotonic", z, y)
    assert isinstance(found, Table)
    assert 100 < len(found.logits) <= methods.KNOTS
    assert np.abs(found(z) - special.expit(z)).mean() < 0.01
    assert found(z).mean() == pytest.approx(y.mean(), rel=0.01)


def test_venn_abers_is_its_definition_at_the_knots() -> None:
    """p0 and p1: isotonic regressions of the rows and one more at the logit, labelled 0 and labelled 1."""
    z, y = draw(4, 300)
    z = z.astype(np.float64)
    found = methods.fit("venn_abers", z, y)
    assert isinstance(found, Table)
    for knot in found.logits[:: len(found.logits) // 12]:
        at = z[np.abs(z - knot).argmin()]
        p0, p1 = (IsotonicRegression().fit(np.append(z, at), np.append(y, label)).predict([at])[0] for label in (0, 1))
        assert found(np.array([knot]))[0] == pytest.approx(p1 / (1 - p0 + p1), rel=1e-6)


@pytest.mark.parametrize(("method", "share"), [("beta", 0.9), ("isotonic", 0.4), ("venn_abers", 0.4)])
def test_bent_methods_find_a_bend_that_two_numbers_cannot(method: methods.Method, share: float) -> None:
    """Beta has a third number, which bends with q and not where this bend is; the tables find it."""
    z, y = draw(5, 100_000)
    fresh, _ = draw(6, 50_000)
    truth = special.expit(np.maximum(fresh, -4.0) * 1.2 + 0.4)

    def regret(calibrator: AnyCalibrator) -> float:
        p = calibrator(fresh)
        return float((special.rel_entr(truth, p) + special.rel_entr(1 - truth, 1 - p)).mean())

    assert regret(methods.fit(method, z, y)) < share * regret(methods.fit("platt", z, y))


WRONG = {
    "no knot": ((), (), "logits and log_odds must be of one length of at least 1, got 0 and 0"),
    "lengths": ((0.0, 1.0), (0.0,), "must be of one length of at least 1, got 2 and 1"),
    "logits": ((0.0, 0.0), (0.0, 1.0), "logits must rise strictly, got a step of 0.0 after knot 0"),
    "log-odds": ((0.0, 1.0, 2.0), (0.0, 1.0, 0.5), "log_odds must not fall, got a step of -0.5 after knot 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_damaged_table_is_refused(case: str) -> None:
    logits, log_odds, why = WRONG[case]
    with pytest.raises(ValueError, match=why):
        Table("isotonic", logits, log_odds)


def test_beyond_its_knots_a_table_goes_on_with_slope_one() -> None:
    # Knots (-2, -3) and (0, 1): slope 2 between them.
    found = Table("isotonic", (-2.0, 0.0), (-3.0, 1.0))
    np.testing.assert_allclose(found.logit(np.array([-5.0, -1.0, 3.0])), [-6.0, -1.0, 4.0])
    np.testing.assert_allclose(found.inverse(np.array([-6.0, -1.0, 4.0])), [-5.0, -1.0, 3.0])


@pytest.mark.parametrize("method", methods.METHODS)
def test_a_block_is_scored_as_its_rows_are(method: methods.Method, tmp_path: Path) -> None:
    chosen = methods.fit(method, *draw(7))
    task = small_block(tmp_path, 40) | {"calibrator": calibration.as_dict(chosen)}
    score_blocks.score_block(task)
    found = pl.read_parquet(tmp_path / "block-00000" / "scores.parquet")
    np.testing.assert_allclose(found["p"], chosen(found["raw_score"].to_numpy()), rtol=1e-5)
    ranks = found.sort("match_id", "raw_score", descending=[False, True])
    assert ranks["rank_in_entity"].to_list() == [1, 2] * 40  # by raw score, also where p is the same


@pytest.mark.parametrize("method", methods.METHODS)
def test_a_refit_is_served_with_the_calibrator_of_its_task(method: methods.Method, tmp_path: Path) -> None:
    chosen = methods.fit(method, *draw(7))
    task = training_task(
        tmp_path, "ffm", role="refit", calib=None, calibrator=calibration.as_dict(chosen), lineage=DAYS
    )
    card = workers.train(task)
    assert calibration.load(card["calibrator"]) == chosen
    model = ScoringModel(task["folder"])
    logits, p = model.score(np.zeros((1, len(model.fields)), np.int32))
    np.testing.assert_array_equal(p, chosen(logits))
    row = train.model_row(card, 1)
    linear = isinstance(chosen, Calibrator)
    assert (row["calibrator_slope"] is not None, row["calibrator_intercept"] is not None) == (linear, linear)
    assert row["calibrator_id"].split("-")[0] == ("logistic" if linear else method)


@pytest.mark.parametrize("method", BENT)
def test_pairs_that_fall_back_get_the_fallbacks_own_p(method: methods.Method, tmp_path: Path) -> None:
    """Every pair is too unknown: raw scores are moved to where this model's calibrator gives the fallback's p."""
    chosen = methods.fit(method, *draw(7))
    task = small_block(tmp_path, 20)
    score_blocks.score_block(task)
    plain = pl.read_parquet(tmp_path / "block-00000" / "scores.parquet").sort("match_id", "candidate_id")
    fallback = {"model": task["model"], "calibrator": {"slope": 0.5, "intercept": -2.5}, "max_oov_share": -1}
    bent = {"calibrator": calibration.as_dict(chosen), "out": str(tmp_path / "bent"), "fallback": fallback}
    score_blocks.score_block(task | bent)
    found = pl.read_parquet(tmp_path / "bent" / "scores.parquet").sort("match_id", "candidate_id")
    expected = special.expit(0.5 * plain["raw_score"].to_numpy() - 2.5)
    # Where a table jumps between two blocks, a step of a float32 raw score is a step of p.
    np.testing.assert_allclose(found["p"], expected, rtol=1e-3)
    assert found["raw_score"].is_finite().all()
