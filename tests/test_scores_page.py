"""The page Scores: what its reader is told when scores are served, refused, missing or sweep."""

from __future__ import annotations

from pathlib import Path

import fake_facts
import fake_release
import fake_scores
import pandas as pd
import pytest
from fake_release import FakeRelease
from fake_training import SWEEP
from shown_page import copy_with, opened, sentence, texts

from dashboard import figures, queries

PAGE = "scores"


def test_sentence_counts_the_scores_and_their_audits(mart: str) -> None:
    night = fake_facts.night()
    found = sentence(mart, "scores")
    assert f"scored {len(night['scores'])} pairs of {len(fake_scores.HOUSEHOLDS)} entities and 20 candidates" in found
    assert found.endswith(f"All {len(night['score_audits'])} audits passed. 1 had nothing to measure.")
    assert sentence(mart, "shadow") == "No shadow model scored beside the serving one."
    # 2.5 of 4.9 s; 0.95 of the way over four blocks lies 0.85 between 1.1 and 1.6
    assert sentence(mart, "score_stages").startswith(
        "Stage score takes most of the time, 51 % of that of 4 blocks. Half of the blocks end within 1.10 s, 95 %"
        " within 1.52 s, the slowest after 1.60 s."
    )


def test_scores_of_an_earlier_night_are_a_red_box_with_the_reason(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = fake_release.stale(tmp_path_factory.getbasetemp())
    app = opened(PAGE, stale.warehouse, monkeypatch)
    assert [box.value for box in app.error] == [sentence(str(stale.database), "scores")]
    assert fake_release.REFUSED in app.error[0].value
    assert texts(app) == [app.error[0].value]


def test_a_prior_without_a_champion_is_a_warning_and_no_fault(
    release: FakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_with(release, tmp_path, "update fct_scoring set score_source = 'prior', requested_model_id = null")
    app = opened(PAGE, root, monkeypatch)
    assert [len(app.warning), len(app.error)] == [1, 0]


def test_an_entity_is_found_by_a_part_of_its_id(
    release: FakeRelease, mart: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened(PAGE, release.warehouse, monkeypatch)
    assert app.selectbox[0].options == sorted(fake_scores.HOUSEHOLDS)
    app = app.text_input[0].set_value(" 2 ").run()
    assert app.selectbox[0].options == ["h02", "h12", *(f"h2{i}" for i in range(10))]
    app = app.selectbox[0].select("h25").run()
    best = [row for row in fake_facts.night()["top_scores"] if row["entity_id"] == "h25" and row["rank_in_entity"]]
    best.sort(key=lambda row: row["rank_in_entity"])
    shown = next(frame.value for frame in app.dataframe if "candidate_label" in frame.value)
    assert list(shown["candidate_id"]) == [row["candidate_id"] for row in best]
    assert list(shown["p"]) == [row["p"] for row in best]
    app = app.text_input[0].set_value("nobody").run()
    assert "No entity has such an id." in [text.value for text in app.markdown]
    assert not app.exception


def test_an_entity_with_nothing_on_offer_says_so(
    release: FakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = "update dim_entity set candidates_on_offer = 0, candidates_scored = 0 where entity_id = 'h00'"
    app = opened(PAGE, copy_with(release, tmp_path, statement), monkeypatch)
    assert "Nothing is on offer to this entity, so it has no scores." in [text.value for text in app.markdown]


def test_without_audits_and_shadow_the_page_still_shows_the_rest(
    release: FakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = opened(PAGE, copy_with(release, tmp_path, "delete from fct_score_audits"), monkeypatch)
    said = [text.value for text in app.markdown]
    assert "No scores of this cycle were audited." in said
    assert "No shadow model scored beside the serving one." in said
    assert len(app.get("plotly_chart")) == 2  # one entity, time


def test_a_shadow_has_a_sentence_and_a_figure(sweep: FakeRelease, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened(PAGE, sweep.warehouse, monkeypatch)
    assert len(app.get("plotly_chart")) == 5
    said = sentence(str(sweep.database), "shadow")
    assert said in [text.value for text in app.markdown]
    p = [row["p"] for row in fake_facts.night(SWEEP)["scores"]]
    mean = sum(p) / len(p)
    assert f"{len(p)} pairs: mean p {1.2 * mean:.5f} against {mean:.5f}, a pair is {0.2 * mean:.5f} apart" in said


# ---- figures ----


def test_audit_figure_tells_passed_failed_and_unmeasured_apart(mart: str) -> None:
    rows = queries.score_audits(mart)
    rows.loc[rows["audit"] == "mean_p_to_matured_rate", ["value", "headroom", "passed"]] = [4.5, -0.2, False]
    figure = figures.score_audits(rows)
    drawn = {
        trace.name: dict(zip(trace.y, trace.text, strict=True)) for trace in figure.data if trace.type == "scatter"
    }
    assert drawn == {
        "passed": {
            "missing_scores": "0, allowed 0",
            "not_a_number": "0, allowed 0",
            "share_of_known_slices": "1, allowed ≥ 0.95",
        },
        "failed": {"mean_p_to_matured_rate": "4.5, allowed 0.33 to 3"},
        "nothing to measure": {"psi": "no value, allowed ≤ 0.25"},
    }


def test_attempts_are_told_apart_by_their_label(release: FakeRelease, tmp_path: Path) -> None:
    twice = "insert into fct_score_audits select * replace (attempt + 1 as attempt, 'prior' as score_source)"
    root = copy_with(release, tmp_path, f"{twice} from fct_score_audits where audit = 'psi'")
    rows = queries.score_audits(queries.current_mart(root))
    assert list(rows["label"])[:2] == ["psi · attempt 2, prior", "missing_scores · attempt 1, model"]


def test_entity_figure_ranks_by_p_and_names_low_confidence(mart: str) -> None:
    rows = queries.entity_scores(mart, "h00").assign(confidence_band="high")
    rows.loc[2, "confidence_band"] = "low"
    figure = figures.entity_scores(rows)
    drawn = {y: (x, text) for trace in figure.data for y, x, text in zip(trace.y, trace.x, trace.text, strict=True)}
    order = list(figure.layout.yaxis.categoryarray)[::-1]
    assert [drawn[name][0] for name in order] == sorted(rows["p"], reverse=True)
    assert [name for name in order if drawn[name][1].endswith("(low)")] == [order[2]]


def test_stage_figure_marks_the_one_that_dominates(mart: str) -> None:
    rows = queries.score_stages(mart)
    bars, *spread = figures.score_stages(rows).data
    assert dict(zip(bars.y, bars.text, strict=True))["score"] == "51% ◀ dominates"
    assert sum("dominates" in text for text in bars.text) == 1
    assert "block" not in bars.y
    at_block = {trace.name: dict(zip(trace.y, trace.x, strict=True))["block"] for trace in spread}
    assert list(at_block) == ["median", "90 %", "95 %", "99 %", "slowest"]
    assert list(at_block.values()) == sorted(at_block.values())


def test_shadow_figure_has_both_models_in_every_decile(sweep: FakeRelease) -> None:
    rows = queries.shadow(str(sweep.database))
    serving, shadow = figures.shadow(rows).data
    assert list(serving.x) == list(shadow.x) == list(range(1, 11))
    assert list(pd.Series(shadow.y) / pd.Series(serving.y)) == pytest.approx([1.2] * 10)
