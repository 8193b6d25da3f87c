"""The self-test in its short form, and that it catches what is wrong: z for t, broken pairing, a careless rule."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import numpy as np
import pytest
import yaml
from scipy import stats

from bench import self_test as bench
from jobs import comparison, intervals, self_test
from jobs.challengers import Challenge, challenger_at
from jobs.dealt_periods import dealt
from jobs.fresh_labels import Pool
from jobs.lake import code_sha
from jobs.promotion import is_earned
from jobs.self_test import MARGIN, Case, Share, coverage, large_enough, trained_world
from jobs.slice_truth import slice_coverage, slice_truths
from jobs.truth_models import PRIOR, Setup, stored_predictions
from jobs.truth_world import TruthWorld

CONF = Path(__file__).resolve().parent.parent / "conf"
MART = Path(__file__).resolve().parent.parent / "dbt" / "models" / "marts" / "fct_incumbent_comparison.sql"
WORLDS = 400
# A method that covers 95 % lies within, but for one time in a thousand.
LOW, HIGH = (bound / WORLDS for bound in stats.binom.interval(0.999, WORLDS, 0.95))
SETUP = Setup(seeds=(1, 2), train=6, valid=2, calib=2, eta=0.05)


@pytest.fixture(scope="module")
def stored():
    return stored_predictions(TruthWorld(60_000, 2, 30), SETUP)


@pytest.fixture(scope="module")
def case(stored):
    return Case(stored, SETUP)


def small_pool(shift_sd: float) -> Pool:
    """Two periods of three rows and one; two sums, conversions and an amount beside a cost of 1 per row."""
    log_odds = np.log([0.2 / 0.8, 0.5 / 0.5, 0.1 / 0.9, 0.4 / 0.6])
    added = np.array([[1.0, 5.0], [1.0, -2.0], [1.0, 0.5], [1.0, 3.0]])
    anyway = np.array([[0.0, 3.0], [0.0, 1.0]])
    return Pool(np.array([0, 3, 4]), log_odds, np.array([1.0, 0.8, 1.0, 1.0]), anyway, added, shift_sd)


def test_expected_sums_by_hand() -> None:
    # Rates .2, .5 × .8 = .4 and .1 in the first period, .4 in the second: conversions .7 and .4; amounts
    # 3 + .2 × 5 - .4 × 2 + .1 × .5 = 3.25 and 1 + .4 × 3 = 2.2.
    assert small_pool(0.0).expected() == pytest.approx(np.array([[0.7, 3.25], [0.4, 2.2]]))


def test_rates_are_expected_over_shifts_as_scipy_integrates_them() -> None:
    from scipy.integrate import quad

    def rate(shift: float) -> float:
        return stats.norm.pdf(shift, 0, 0.7) / (1 + np.exp(-(np.log(0.25) + shift)))

    assert small_pool(0.7).rates()[0] == pytest.approx(quad(rate, -8, 8)[0], rel=1e-7)


@pytest.mark.parametrize("repeats", [1, 3])
def test_drawn_sums_have_the_expected_mean_and_spread(repeats: int) -> None:
    pool, n = small_pool(0.0), 40_000
    drawn = pool.draw(n, 1, 5, repeats)[:, 0]
    mean = repeats * pool.expected().mean(axis=0)
    # Variance of conversions: within periods (.16 + .24 + .09 and .24) × repeats, on average .365; between the
    # periods' expectations .7 and .4 times repeats, (.15 × repeats)².
    spread = np.sqrt(0.365 * repeats + (0.15 * repeats) ** 2)
    assert drawn[:, 0].std() == pytest.approx(spread, rel=0.02)
    assert np.abs(drawn.mean(axis=0) - mean).max() < 5 * drawn.std(axis=0).max() / np.sqrt(n)


def test_rows_of_a_period_share_its_shift() -> None:
    # Without the shift a period's 100,000 rows at one half would convert with sd sqrt(1/4 / 1e5) = .0016. The shift of
    # .2 adds .2 × 1/4 = .05 (the slope of the logistic function at 0).
    n = 100_000
    pool = Pool(np.array([0, n]), np.zeros(n), np.ones(n), np.zeros((1, 1)), np.ones((n, 1)), 0.2)
    assert (pool.draw(300, 1, 3)[:, 0, 0] / n).std() == pytest.approx(0.05, rel=0.15)


def test_same_seed_same_worlds(case) -> None:
    assert (case.pool.draw(3, 4, 1) == case.pool.draw(3, 4, 1)).all()
    assert (case.pool.draw(3, 4, 1) != case.pool.draw(3, 4, 2)).any()


def test_the_truth_of_a_case_is_what_very_many_labels_average_to(case) -> None:
    drawn = case.pool.draw(3000, 9, 21).sum(axis=(0, 1))
    at = {name: place for place, name in enumerate(case.names)}
    for model_id in case.models:
        assert drawn[at[f"sum_logloss {model_id}"]] / drawn[at["n"]] == pytest.approx(case.loss[model_id], rel=2e-3)
    found = drawn[at[f"sum_p {case.shown}"]] / drawn[at["conversions"]]
    assert found == pytest.approx(case.calibration, rel=4e-3)


def test_dealt_rows_are_the_same_rows_in_other_periods(stored) -> None:
    other = dealt(stored, 3)
    assert (other.first == stored.first).all()
    assert (other.rows.period == stored.rows.period).all()
    assert sorted(other.rows.number) == sorted(stored.rows.number)
    back = np.argsort(other.rows.number)  # as the rows were, whose numbers rise
    assert (other.rows.cvr[back] == stored.rows.cvr).all()
    assert (other.p[4, 1][back] == stored.p[4, 1]).all()
    assert (other.rows.columns["campaign"][back] == stored.rows.columns["campaign"]).all()
    # Periods now are alike: the spread of their rates is that of chance, far below what drift and campaigns made it.
    spread = [np.std(np.add.reduceat(one.rows.cvr, one.first[:-1]) / np.diff(one.first)) for one in (stored, other)]
    assert spread[1] < spread[0] / 2


@pytest.mark.parametrize("n_periods", [4, 9])
def test_intervals_hold_the_truth_as_often_as_they_say(stored, n_periods: int) -> None:
    alike = Case(dealt(stored, 1), SETUP)
    found = {share.name: share.value for share in coverage(alike, WORLDS, n_periods, 7)}
    together = found.pop("logloss, every k against the best")
    assert len(found) == 4
    assert {name: value for name, value in found.items() if not LOW <= value <= HIGH} == {}
    assert together >= LOW


def test_normal_quantiles_are_caught(case, monkeypatch) -> None:
    # With four periods |t| < 1.96 holds with probability .855.
    monkeypatch.setattr(intervals.stats.t, "ppf", lambda share, _: stats.norm.ppf(share))
    found = coverage(case, WORLDS, 4, 7)
    assert all(share.value < LOW for share in found if "every k" not in share.name)


def test_models_that_are_not_paired_by_period_are_caught(case, monkeypatch) -> None:
    true_rows = self_test.period_rows

    def unpaired(models, names, world):
        """The second half of the models have their periods in the opposite order: same totals, no pairs."""
        last = len(world) - 1
        return [
            row | {"period": last - row["period"]} if row["model_id"] in models[len(models) // 2 :] else row
            for row in true_rows(models, names, world)
        ]

    monkeypatch.setattr(self_test, "period_rows", unpaired)
    found = {share.name: share.value for share in coverage(case, WORLDS, 9, 7)}
    assert found["logloss, k against k"] > HIGH
    assert LOW <= found["calibration ratio"] <= HIGH


def test_the_band_is_scipys_exact_interval() -> None:
    found = stats.binomtest(380, 400).proportion_ci(0.99, "exact")
    assert Share("x", 380, 400).band(0.99) == pytest.approx((found.low, found.high))


BETTER = TruthWorld(120_000, 22, 30, taste=2.0), Setup(seeds=(1, 2), train=10, valid=2, calib=2, eta=0.1)


def test_the_verdict_of_a_world_trained_anew_is_truly_as_good_as_the_best_k() -> None:
    [found] = trained_world(*BETTER, sizes=[26], redraws=10)
    assert found["n_periods"] == 26
    assert found["excess"] <= MARGIN
    assert found["smallest"] > 0.003  # a wrong k would matter
    assert 0 <= found["redrawn"]["calibration ratio"] <= 10


def test_a_verdict_that_always_takes_the_smallest_k_is_caught(monkeypatch) -> None:
    true_comparison = comparison.compare_k

    def smallest(*arguments, **options):
        rows = true_comparison(*arguments, **options)
        return [row | {"is_verdict": row["k"] == min(r["k"] for r in rows)} for row in rows]

    monkeypatch.setattr(comparison, "compare_k", smallest)
    [found] = trained_world(*BETTER, sizes=[26], redraws=2)
    assert found["k"] == 1
    assert found["excess"] > MARGIN


def test_in_every_fourth_world_the_largest_k_is_not_feasible() -> None:
    [found] = trained_world(TruthWorld(60_000, 24, 30), SETUP, sizes=[9], redraws=2)
    assert found["k"] in (1, 2)


@pytest.mark.parametrize("gap", [0.0, MARGIN])
def test_a_challenger_has_exactly_the_loss_it_should_and_other_predictions(stored, gap: float) -> None:
    rates, p = stored.pool({"n": (1.0, 0.0)}).rates(), stored.p[4, 1]
    challenger = challenger_at(p, stored.p[2, 1], rates, gap)

    def loss(q: np.ndarray) -> float:
        return float(-(rates * np.log(q) + (1 - rates) * np.log1p(-q)).mean())

    assert loss(challenger) / loss(p) - 1 == pytest.approx(gap, abs=1e-10)
    assert np.abs(challenger / p - 1).mean() > 0.01


def test_promotions_of_challengers_that_are_exactly_as_good(stored) -> None:
    equal = Challenge(stored, (4, 1), [(4, 2)], 0.0)
    # At most 5 % of challengers that cost the same; 2.5 % is meant, so 35 of 400 would be more than chance.
    assert equal.promoted(False, WORLDS, 9, 3).value <= 0.05
    periods = equal.periods_for(0.8, 100, 9, 4)
    assert equal.promoted(True, WORLDS, periods, 5).band(0.999)[1] >= 0.8


def test_a_cheaper_challenger_that_is_worse_by_the_margin_is_seldom_promoted(stored) -> None:
    assert Challenge(stored, (4, 1), [(4, 2)], MARGIN).promoted(True, WORLDS, 9, 6).value <= 0.05


def test_of_several_equal_challengers_the_one_that_looks_best_is_judged(stored) -> None:
    others = [(1, 1), (2, 1), (4, 2)]
    several = Challenge(stored, (4, 1), others, 0.0)
    # The least of three differences, each of mean 0, lies below 0 more often than one does.
    found = several.compared(WORLDS, 9, 3)
    assert np.mean([row["delta_logloss"] < 0 for row in found]) > 0.6
    alone = Challenge(stored, (4, 1), others[:1], 0.0)
    assert several.promoted(False, WORLDS, 9, 3).value > alone.promoted(False, WORLDS, 9, 3).value


def test_whether_a_world_can_tell_is_the_truths_to_say(case) -> None:
    # The same models: with hardly any period every interval is wider than the margin; with the labels of 60 times as
    # many the error over periods is far below it, and with one seed nothing else is uncertain.
    one_seed = Case.__new__(Case)
    one_seed.__dict__ = case.__dict__ | {"setup": Setup(seeds=(1,))}
    assert not large_enough(one_seed, case.pool.draw(10, 4, 5), [1, 2, 4])
    assert large_enough(one_seed, case.pool.draw(2, 4000, 5), [1, 2, 4])
    assert large_enough(one_seed, case.pool.draw(10, 4, 5), [2])  # nothing to choose


def test_terms_and_margin_are_those_of_the_conf_files() -> None:
    gate, value = (yaml.safe_load((CONF / f"{name}.yml").read_text()) for name in ("gate", "value"))
    assert gate["margin_relative_logloss"] == MARGIN
    assert value["target"]["n"] == self_test.TOP_N
    costs = (self_test.TERMS.margin_rate, self_test.TERMS.contact_cost, self_test.TERMS.wrong_contact_cost)
    assert costs == tuple(value[name] for name in ("margin_rate", "contact_cost_usd", "wrong_contact_cost_usd"))


def test_other_model_code_starts_the_benchmark_afresh(monkeypatch) -> None:
    before, read = bench.identity(), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: read(p) + b"\n" * (p.parts[-2:] == ("ffm_udf", "model.py")))
    code_sha.cache_clear()
    changed = bench.identity()
    monkeypatch.undo()
    code_sha.cache_clear()
    assert changed != before
    assert bench.identity() == before


def test_a_row_outside_its_own_band_says_so_and_is_judged_with_its_family() -> None:
    # 107 of 120: its 95 % band ends at 94.1 %, that of one row among 66 does not. 100 of 120 is outside both.
    near, far = (bench.nominal(Share("x", hits, 120), "covered") for hits in (107, 100))
    assert near.holds
    assert "[82.19–94.10 %] of 120, **outside its own band**" in near.name
    assert not far.holds


def test_a_rule_that_looks_at_the_estimate_is_caught(stored) -> None:
    found = Challenge(stored, (4, 1), [(4, 2)], 0.0).compared(WORLDS, 9, 3)
    assert np.mean([row["delta_logloss"] < 0 for row in found]) > 0.3


def test_printed_slices_against_the_known_rates(stored) -> None:
    found = slice_truths(stored, stored.p[4, 1], 60, 9, 3)
    share = slice_coverage([found])
    printed = np.array([row.printed for row in found])
    kept = printed & ~np.array([row.missed for row in found])
    assert printed.shape == (len(found), 60)
    assert share.value == pytest.approx(kept.sum() / printed.sum())
    # The band is one over worlds: that of slices as if none shared a world would be narrower.
    alone = 1.96 * np.sqrt(share.value * (1 - share.value) / printed.sum())
    assert share.hi is not None
    assert share.hi - share.value > alone
    # At least 95 % are meant: of two variances the larger counts, so small slices are held more often.
    assert share.hi >= 0.95
    assert share.value < 1
    rates = stored.pool({"n": (1.0, 0.0)}).rates()
    [mine] = [row for row in found if (row.slice, row.value) == ("device", "1")]
    member = stored.rows.columns["device"] == 1
    assert mine.truth == pytest.approx(stored.p[4, 1][member].sum() / rates[member].sum())


def test_slices_of_the_prior_are_not_all_right(stored) -> None:
    # The prior knows campaigns and users and nothing else: in many slices it is truly off, and the truth says so.
    truths = {(row.slice, row.value): row.truth for row in slice_truths(stored, stored.p[PRIOR], 2, 9, 3)}
    assert max(truths.values()) / min(truths.values()) > 1.5


@pytest.mark.parametrize(
    ("lo", "hi", "is_cheaper", "earned"),
    [
        (-0.3, -0.1, False, True),
        (-0.3, 0.0, False, False),  # a tie keeps what runs
        (-0.3, 0.1, False, False),
        (-0.3, 0.2, True, True),  # not worse by more than the margin
        (-0.3, 0.21, True, False),
        (0.1, 0.2, True, True),  # worse for sure, and by no more than what does not matter
        (None, None, True, False),
    ],
)
def test_the_rule(lo: float | None, hi: float | None, is_cheaper: bool, earned: bool) -> None:
    assert is_earned(lo, hi, 0.2, is_cheaper) is earned


def test_what_is_no_interval_and_no_margin() -> None:
    with pytest.raises(ValueError, match=r"delta_lo must be at most delta_hi, got 0\.2 and 0\.1"):
        is_earned(0.2, 0.1, 0.1, True)
    with pytest.raises(ValueError, match=r"margin must be at least 0, got -0\.1"):
        is_earned(0.1, 0.2, -0.1, True)


def test_the_mart_has_the_same_rule() -> None:
    [rule] = re.findall(r"(case .* end) as is_earned", MART.read_text())
    rng, margin = np.random.default_rng(3), 0.1
    with duckdb.connect() as con:
        for centre, half, is_cheaper in zip(
            rng.normal(0, 0.1, 50), rng.uniform(0, 0.2, 50), [True, False] * 25, strict=True
        ):
            row = f"select {is_cheaper} as is_cheaper, {centre + half} as delta_hi, {margin} as margin"
            [(found,)] = con.execute(f"select {rule} from ({row})").fetchall()
            assert found is is_earned(centre - half, centre + half, margin, is_cheaper)
