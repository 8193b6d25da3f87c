"""What readers are told of late labels: sentences, figures and the page, from facts made by hand."""

from __future__ import annotations

import fake_release
import pytest
from fake_delay import delayed_feedback
from fake_training import NIGHTLY, SWEEP
from shown_page import answer, opened, sentence, texts
from small_world import CONF

from dashboard import figures, look, queries
from jobs.release_audits import load_audits

NOT_MEASURED = "What to make of labels that are not final was not measured yet: run `fieldmart delayed-feedback`."


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """Without and with delayed feedback measured."""
    return [fake_release.build(tmp_path_factory.getbasetemp(), flavour) for flavour in (NIGHTLY, SWEEP)]


def test_the_page_says_how_late_labels_come_and_what_is_still_open(releases, monkeypatch):
    app = opened("label_delay", releases[0].warehouse, monkeypatch)
    # From fake_delay: 40 % by day 1 and 90 % by day 2, the slow group 50 % by day 2; one period doubles.
    known = answer(str(releases[0].database), "select conversions from fct_label_maturity where not is_mature")[0]
    told = (
        "Half of the conversions come within 2 days of the exposure and nine tenths within 2; labels are final after 3."
        f" Slowest: late, half within 2. The labels of 1 period are not final: {known} conversions are known, 500"
        " exposures are immature and count as nothing yet."
    )
    assert told in texts(app)
    assert NOT_MEASURED in [text.value for text in app.markdown]


def test_the_page_shows_the_ways_once_they_are_measured(releases, monkeypatch):
    app = opened("label_delay", releases[1].warehouse, monkeypatch)
    [table] = [frame.value for frame in app.dataframe if "delta_relative" in frame.value]
    assert list(table["method"]) == ["importance_weights", "mature_only", "fake_negatives", "naive", "oracle"]
    assert sentence(str(releases[1].database), "delayed_feedback") == (
        "Logloss against training on final labels alone, at 9 dates on 10,000 exposures with 200 conversions. Surely"
        " better: importance weights (FSIW) -1.00 % (95 % interval -1.50 to -0.50 %). Surely worse: unseen is negative"
        " +2.00 % (95 % interval +1.50 to +2.50 %). Not told apart: fake negatives, weighted (FNW) +0.10 % (95 %"
        " interval -0.40 to +0.60 %). Bound: final labels (nobody has them) -2.00 % (95 % interval -2.50 to -1.50 %)."
    )


def test_a_night_is_published_without_the_comparison(releases):
    assert "fct_delayed_feedback" in load_audits(CONF / "audits.yml").may_be_empty
    assert answer(str(releases[0].database), "select count(*) from fct_delayed_feedback") == (0,)


def test_the_curve_has_a_line_and_a_band_per_group(releases):
    drawn = figures.label_delay(queries.label_delay(str(releases[0].database))).data
    lines = [trace for trace in drawn if trace.name]
    assert [trace.name for trace in lines] == ["all", "late"]
    assert list(lines[0].y) == [0.0, 0.4, 0.9, 1.0]
    assert len(drawn) == 6  # both ends of each band besides
    assert lines[0].line.dash != lines[1].line.dash  # colour never tells alone


def test_provisional_and_expected_rates_stand_beside_what_is_known(releases):
    first, now, final = figures.label_maturity(queries.label_maturity(str(releases[0].database))).data
    # The last period: 600 exposures, its conversions double and range from 0.9 to 1.2 times that.
    known = now.y[-1] * 600
    assert first.y[-1] == pytest.approx((known - 10) / 600)
    assert final.y[-1] == pytest.approx(2 * known / 600)
    assert final.error_y.array[-1] == pytest.approx(0.2 * final.y[-1])
    assert final.error_y.arrayminus[-1] == pytest.approx(0.1 * final.y[-1])
    assert list(final.y[:-1]) == list(now.y[:-1])


def test_sure_differences_are_marked_by_symbol_and_colour(releases):
    drawn = figures.delayed_feedback(queries.delayed_feedback(str(releases[1].database))).data
    marks = {trace.name: (trace.marker.symbol, trace.marker.color, len(trace.x)) for trace in drawn}
    assert marks == {
        "surely better": ("diamond", look.BLUE, 2),
        "no sure difference": ("circle", look.GREY, 1),
        "surely worse": ("x", look.VERMILION, 1),
        "reference": ("square", look.INK, 1),
    }
    [worse] = [row for row in delayed_feedback() if row["method"] == "naive"]
    assert list(next(trace for trace in drawn if trace.name == "surely worse").x) == [worse["delta_relative"]]
