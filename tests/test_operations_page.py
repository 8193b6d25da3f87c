"""The page on operations, its figures and sentences, from facts made by hand (tests/fake_operations.py)."""

from __future__ import annotations

import json

import pytest
from fake_release import FakeRelease
from shown_page import copy_with, opened, sentence, texts

from dashboard import figures, look, queries
from dashboard.promise_words import promise_value
from jobs.release_audits import load_audits
from jobs.slo import FILE

NOTHING_MET = "No scores that were served have met exposures of their period yet: a later night tells."


def test_the_page_tells_broken_promises_first(release: FakeRelease, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("operations", release.warehouse, monkeypatch)
    # fake_operations: of three earlier nights one was late; 1 of 1,000 probes failed, as much as is allowed; the second
    # drill took 50 s after 40 s. Earlier nights of 103, 102 and 101 s: the 95th percentile is 102.9.
    told = (
        "Of 4 promises (conf/slo.yml) 3 are kept, 1 broken and 0 not observed yet. Scores ready by 06:00"
        " America/New_York: 2 of 3 observations in the last 28 days are good, 66.67 % of 95.00 % promised: broken."
        " Recovery time within 15 min: 2 of 2 observations in the last 90 days are good, 100.00 % of 100.00 % promised."
        " The last took 50.0 s, 25 % more than the 40.0 s before: an alarm. Half of the 3 earlier nights took at most"
        " 102 s, 95 % at most 103 s. The stage that takes longest is train, with 73 % of the time of all nights."
    )
    assert told in texts(app)
    assert [box.value for box in app.error] == [told]  # red because an alarm is


def test_the_page_tells_what_was_expected_and_what_came(release: FakeRelease) -> None:
    # The latest period is not final: 100 expected, widened by the dispersion of the one before, 108 / 90 = 1.2:
    # 1.96 * sqrt(1.2 * 90) + 0.5 = 20.9.
    assert sentence(str(release.database), "live_performance") == (
        "The scores served in the period of 2017-12-18 expected 100 conversions (95 % interval 79 to 121, if p is"
        " right) of 1,000 exposures: 80 % of all had a score. 20 are known by now; labels are not final."
    )


def test_before_anything_is_measured_the_page_says_so(
    release: FakeRelease, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = (
        "delete from fct_live_performance; delete from fct_operations; update fct_slo set error_budget_left = null,"
        f" is_alarm = false; update fct_findings set sentence = '{NOTHING_MET}' where page = 'live_performance';"
        " update fct_data_quality set is_kept = true"
    )
    app = opened("operations", copy_with(release, tmp_path, empty), monkeypatch)
    shown = [text.value for text in app.markdown]
    assert NOTHING_MET in shown
    assert "None is in the operations log yet: run `fieldmart backup`, then `fieldmart drill`." in shown
    assert "No row of the inputs was put aside." in shown
    assert not app.error


def test_a_night_is_published_without_a_log_and_without_earlier_nights() -> None:
    may_be_empty = load_audits(FILE.parent / "audits.yml").may_be_empty
    assert {"fct_operations", "fct_live_performance"} <= set(may_be_empty)


def test_the_budget_is_drawn_to_minus_one_at_most(release: FakeRelease) -> None:
    kept, alarm = figures.slo(queries.slo(str(release.database))).data
    # kept: 1 of 1,000 missed where 1 may be: nothing left; point: all good. alarm: 1 of 3 missed where 0.15 may be.
    assert dict(zip(kept.y, kept.x, strict=True)) == {"Mart readable": 0.0, "Recovery point within 24 h": 1.0}
    ready, time = alarm.x
    assert (ready, time) == (-1.0, 1.0)
    assert alarm.customdata[0][0] == pytest.approx(1 - 1 / 0.15)
    assert (kept.marker.color, alarm.marker.color) == (look.BLUE, look.VERMILION)
    assert kept.marker.pattern.shape != alarm.marker.pattern.shape  # colour never tells alone


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (-22_970.0, "s after the deadline", "6.4 h before the deadline"),  # 22,970 / 3,600 = 6.38
        (600.0, "s after the deadline", "10.0 min after the deadline"),
        (0.0, "s after the deadline", "0.0 s before the deadline"),  # at the very hour is in time
        (40.0, "s", "40.0 s"),
        (86_400.0, "s", "24.0 h"),
        (1.0, "failed probes in the minute", "1 failed probes in the minute"),
        (float("nan"), "s", None),
    ],
)
def test_a_value_of_a_promise_says_what_it_is(value: float, unit: str, words: str | None) -> None:
    assert promise_value(value, unit) == words


def test_each_date_is_on_the_axis_once(release: FakeRelease) -> None:
    periods = queries.live_performance(str(release.database))
    assert list(figures.live_performance(periods).layout.xaxis.tickvals) == ["2017-12-11", "2017-12-18"]
    alone = figures.live_performance(periods[-1:]).layout
    for axis in (alone.xaxis, alone.xaxis2):
        assert list(axis.tickvals) == list(axis.ticktext) == ["2017-12-18"]
        assert list(axis.range) == ["2017-12-17", "2017-12-19"]
    assert alone.xaxis2.title.text == "Period (its first day)"


def test_dates_are_shown_without_an_hour(release: FakeRelease, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("operations", release.warehouse, monkeypatch)
    columns = [json.loads(frame.proto.columns) for frame in app.dataframe]
    shown = {name: config for each in columns for name, config in each.items() if name in ("period", "cycle_date")}
    assert {config["type_config"]["type"] for config in shown.values()} == {"date"}
    assert len(shown) == 2


def test_realised_stands_beside_estimated_once_labels_are_final(release: FakeRelease) -> None:
    drawn = figures.live_performance(queries.live_performance(str(release.database))).data
    expected, came, estimated, realised, rate = drawn
    assert list(expected.y) == [100.0, 100.0]
    assert list(came.y) == [104]  # only the final period
    assert list(estimated.y) == pytest.approx([0.325, 0.325])
    assert list(realised.y) == pytest.approx([0.334])
    assert len(rate.x) == 1
    assert expected.error_y.array[1] == pytest.approx(1.959964 * (1.2 * 90) ** 0.5 + 0.5)
    assert expected.marker.symbol != came.marker.symbol


def test_nights_are_told_apart_by_what_they_served(release: FakeRelease) -> None:
    drawn = {trace.name: trace for trace in figures.nights(queries.nights(str(release.database))).data}
    assert len(drawn["champion scored"].x) == 3
    assert list(drawn["stale scores"].y) == [102.0]
    assert list(drawn["test logloss of the judged k"].y) == pytest.approx([0.28, 0.27, 0.26, 0.25])


def test_stages_show_percentiles_and_never_means(release: FakeRelease) -> None:
    spread, last = figures.stage_percentiles(queries.stage_percentiles(str(release.database))).data
    # train 10, 20 and 30 s: median 20, 95th percentile 29; the longest stage in all first
    assert list(spread.y) == ["train", "publish", "publish: dbt", "score"]
    assert spread.x[0] == 20.0
    assert spread.error_x.array[0] == pytest.approx(9.0)
    assert last.x[0] == 30.0


def test_quarantined_rows_are_shown_by_reason(release: FakeRelease) -> None:
    [bars] = figures.data_quality(queries.data_quality(str(release.database))).data
    assert dict(zip(bars.y, bars.x, strict=True))["exposures: duplicate key"] == 12
