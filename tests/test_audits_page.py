"""The page Audits: what its reader is told when something leaks, when no groups are declared, and what is drawn."""

from __future__ import annotations

from pathlib import Path

import fake_audits
import fake_release
import numpy as np
import pytest
from fake_release import FakeRelease
from fake_training import NIGHTLY, SWEEP
from scipy import stats
from shown_page import answer, opened, sentence, texts

from dashboard import figures, look, queries
from jobs.gate import evaluate, load_gate
from jobs.lake import PROJECT
from jobs.release_audits import load_audits

PAGE = "audits"


@pytest.fixture(scope="module")
def releases(tmp_path_factory) -> dict[str, FakeRelease]:
    folder = tmp_path_factory.getbasetemp()
    return {flavour.name: fake_release.build(folder, flavour) for flavour in (NIGHTLY, SWEEP)}


@pytest.fixture(scope="module")
def mart(releases) -> str:
    return str(releases["nightly"].database)


@pytest.fixture(scope="module")
def leaking(releases) -> str:
    return str(releases["sweep"].database)


def test_the_sentence_says_what_was_found(mart, leaking):
    # 8 checks; 4 periods of 7 days; of three groups one has fewer rows than 1,100 and one is off.
    assert sentence(mart, PAGE) == (
        "None of 8 leakage checks found anything. A model left alone for 28 more days loses +2.00 % of logloss (95 %"
        " interval +1.50 to +2.50 %). Of 3 groups of people 2 have rows enough to be judged, and p is surely off in 1"
        " of them."
    )
    found = sentence(leaking, PAGE)
    assert found.startswith("1 of 8 leakage checks failed: history.")
    assert found.endswith("The contract declares no groups of people.")


def test_a_leak_is_a_red_box_and_no_groups_are_said(releases, monkeypatch):
    app = opened(PAGE, releases["sweep"].warehouse, monkeypatch)
    assert [box.value for box in app.error] == [sentence(str(releases["sweep"].database), PAGE)]
    assert "The contract declares no groups (`fairness`)." in [text.value for text in app.markdown]
    assert len(app.get("plotly_chart")) == 4


def test_a_clean_night_shows_everything_and_claims_no_certificate(releases, monkeypatch):
    app = opened(PAGE, releases["nightly"].warehouse, monkeypatch)
    assert texts(app) == [sentence(str(releases["nightly"].database), PAGE)]
    assert not app.error
    assert any("not a certificate of fairness" in text.value for text in app.markdown)
    assert len(app.get("plotly_chart")) == 6
    assert app.selectbox[0].options[0] == str(NIGHTLY.verdict_k)
    app = app.selectbox[0].select(1).run()
    assert not app.exception


def test_normalized_entropy_is_logloss_over_that_of_the_rate(mart):
    rows = queries.model_age(mart)
    # 50 of 600 convert in every period; losses are 100, 101 … and 102, 103 … nats.
    whole = 600 * stats.entropy([50 / 600, 550 / 600])
    newer = rows[rows["version"] == "newer"]
    assert newer["normalized_entropy"].tolist() == pytest.approx([(100 + i) / whole for i in range(6)])
    older = rows[rows["version"] == "older"]
    assert older["delta_relative"].tolist() == pytest.approx([2 / (100 + i) for i in range(6)])


def test_the_gate_stops_a_leak_and_a_group_that_is_off(mart, leaking):
    policy = load_gate(PROJECT / "conf" / "gate.yml")
    names = {"no_certain_leak", "no_suspected_leak", "groups_off_calibration"}
    ours = policy.model_copy(update={"rules": tuple(rule for rule in policy.rules if rule.name in names)})
    outcomes = []
    for database in (mart, leaking):
        found = evaluate(ours, Path(database), ours.sha)
        outcomes.append({rule.rule: (rule.outcome, rule.value) for rule in found.rules if rule.rule in names})
    clean, leaks = outcomes
    for name in ("no_certain_leak", "no_suspected_leak"):  # a field of 0.97
        assert (clean[name], leaks[name]) == (("pass", 0), ("fail", 1))
    # The group `old` has 140 expected for 100 conversions.
    assert clean["groups_off_calibration"] == ("fail", pytest.approx(np.log(1.4)))
    assert leaks["groups_off_calibration"] == ("pass", 0)


def test_marts_without_groups_may_be_empty(leaking):
    assert {"fct_fairness", "fct_fairness_proxy"} <= set(load_audits(PROJECT / "conf" / "audits.yml").may_be_empty)
    assert answer(leaking, "select count(*) from fct_fairness") == (0,)


# ---- figures ----


def test_leakage_figure_crosses_what_failed(leaking):
    drawn = {
        trace.name: dict(zip(trace.y, trace.x, strict=True)) for trace in figures.leakage(queries.leakage(leaking)).data
    }
    assert drawn == {"passed": {"brand": 0.6, "store": 0.7}, "failed": {"history": 0.97}}


def test_domain_figure_marks_what_time_adds(mart):
    rows = queries.domain_shift(mart)
    assert rows["subject"].tolist()[:2] == ["all fields", "history"]
    drawn = {trace.name: list(trace.y) for trace in figures.domain_shift(rows).data if trace.name}
    # 0.95 - 0.75 and (0.5 + 0.2) - 0.5 are above 0.1.
    assert sorted(drawn["the same, material"]) == ["all fields", "history"]
    assert sorted(drawn["test against training"]) == ["brand", "store"]


def test_fairness_figure_tells_off_few_and_judged_apart(mart):
    drawn = {
        trace.name: (list(trace.y), trace.marker.symbol) for trace in figures.fairness(queries.fairness(mart)).data
    }
    assert drawn == {
        "surely off": (["age: old"], "x"),
        "judged": (["age: young"], "circle"),
        "too few rows to judge": (["age: (missing)"], "circle-open"),
    }


def test_proxy_figure_has_every_group(mart):
    [trace] = figures.fairness_proxy(queries.fairness_proxy(mart)).data
    assert sorted(trace.y) == sorted(f"age: {group}" for group in fake_audits.GROUPS)
    assert list(trace.error_x.array) == pytest.approx([0.1] * 3)


def test_age_figure_has_both_versions_of_every_period(mart):
    newer, older = figures.model_age(queries.model_age(mart)).data
    assert list(newer.x) == list(older.x)
    assert all(old > new for old, new in zip(older.y, newer.y, strict=True))
    assert (newer.line.color, older.line.color) == (look.BLUE, look.ORANGE)


def test_heatmap_is_symmetric_with_fields_alone_on_the_diagonal(mart):
    [heat] = figures.field_pairs(queries.field_pairs(mart)).data
    assert list(heat.x) == list(heat.y) == ["history", "brand", "store"]
    z = np.array(heat.z)
    assert np.allclose(z, z.T)
    assert np.diag(z).tolist() == [0.4, 0.3, 0.0]
    assert z[0].tolist() == [0.4, 0.25, -0.05]
