"""The page Decision: what its reader is told of intervals, blocking rules, approvals and waivers."""

from __future__ import annotations

from pathlib import Path

import fake_release
import pandas as pd
import pytest
from fake_release import FakeRelease
from fake_training import SWEEP
from shown_page import copy_with, opened, sentence, texts

from dashboard import figures, queries

PAGE = "decision"


def test_the_page_says_what_the_model_had_to_show_and_that_it_did(
    release: FakeRelease, mart: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened(PAGE, release.warehouse, monkeypatch)
    said = [text.value for text in app.markdown]
    assert sentence(mart, "incumbent") in said
    assert sentence(mart, "incumbent").endswith("It is not cheaper, so it must be better: it is.")
    assert texts(app) == [sentence(mart, "decision")]
    assert len(app.get("plotly_chart")) == 3  # against what serves, by k, rules
    assert any(text.startswith("Nobody has approved a held model") for text in said)


HELD = """
    update fct_decisions set verdict = 'HOLD', next_action = 'rescope', blocking_rules = 'profit_above_prior'
    where is_of_release;
    update fct_decision_rules set outcome = 'fail', note = 'about 3 more periods (21 days)'
    where is_of_release and rule = 'profit_above_prior';
    update fct_decision_rules set outcome = 'waived', note = 'waived by ann' where is_of_release and rule = 'auc';
    insert into fct_approvals (entry_id, seq, kind, cycle_date, given_by, why, entry_hash, rule)
    values ('e', 9, 'waiver', '2017-12-25', 'ann', 'a trial', 'ee', 'auc');
    update dim_release set verdict = 'HOLD'
"""


def test_a_held_night_shows_what_blocks_and_what_would_change_it(
    release: FakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened(PAGE, copy_with(release, tmp_path, HELD), monkeypatch)
    blocking, rules, given, log, _ = (frame.value for frame in app.dataframe)
    assert list(blocking["rule"]) == ["profit_above_prior"]
    assert list(blocking["note"]) == ["about 3 more periods (21 days)"]
    assert list(rules["outcome"])[:2] == ["fail", "waived"]
    assert list(given["given_by"]) == ["ann"]
    assert set(log["verdict"]) == {"HOLD"}
    assert [box.value for box in app.error] == [
        "Nothing was promoted and nothing gained for too many cycles: kill or rescope."
    ]


def test_without_a_comparison_the_page_says_so(
    release: FakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = (
        "delete from fct_incumbent_comparison; update fct_findings set sentence = 'Nothing.' where page = 'incumbent'"
    )
    app = opened(PAGE, copy_with(release, tmp_path, empty), monkeypatch)
    assert len(app.get("plotly_chart")) == 2
    assert "Nothing." in [text.value for text in app.markdown]


def test_intervals_are_those_of_the_marts(tmp_path_factory: pytest.TempPathFactory) -> None:
    mart = str(fake_release.build(tmp_path_factory.getbasetemp(), SWEEP).database)
    rows = queries.incumbent_comparison(mart)
    by_k = queries.accuracy_cost_by_k(mart)
    best = by_k["best_k"].dropna().iloc[0]
    compared = by_k[~by_k["is_baseline"] & (by_k["k"] != best)]
    assert next(iter(rows["label"])) == f"k = {SWEEP.verdict_k} against the prior"
    assert list(rows["delta_hi"])[1:] == list(compared["delta_hi_simultaneous"])
    assert list(rows["allowed_delta"])[1:] == list(compared["margin"])
    assert list(rows["holds"])[1:] == list(compared["is_non_inferior"])


def test_figure_tells_shown_from_not_shown_by_symbol_and_marks_what_is_allowed() -> None:
    names = ["label", "delta_logloss", "delta_lo", "delta_hi", "allowed_delta", "holds"]
    rows = pd.DataFrame(
        [("a", -2.0, -3.0, -1.0, 0.0, True), ("b", 0.5, -0.5, 1.5, 1.0, False), ("c", 0.5, None, None, None, None)],
        columns=names,
    )
    figure = figures.incumbent_comparison(rows)
    drawn = {trace.name: (list(trace.y), trace.marker.symbol) for trace in figure.data}
    assert drawn["shown"] == (["a"], "circle")
    assert drawn["not shown"] == (["b", "c"], "x")
    assert list(figure.data[-1].x)[:2] == [0.0, 1.0]
    assert list(figure.layout.yaxis.categoryarray) == ["c", "b", "a"]
