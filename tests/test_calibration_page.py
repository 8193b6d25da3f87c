"""The page Calibration: curve, errors, methods and small slices, as its reader sees them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from fake_release import FakeRelease
from shown_page import copy_with, opened, sentence

from dashboard import figures, queries
from dashboard.look import VERMILION


def chosen_model(mart: str) -> str:
    errors = queries.calibration_error(mart)
    assert errors["is_verdict"].tolist() == [True] + [False] * (len(errors) - 1)
    return errors["model_id"].iloc[0]


def test_every_curve_point_is_drawn_once_and_marked_if_it_is_outside_of_the_band(mart: str) -> None:
    points = queries.reliability_curve(mart, chosen_model(mart))
    _, band, inside, outside = figures.reliability_curve(points).data
    drawn = points[(points["p"] > 0) & (points["observed_rate"] > 0)]
    assert len(inside.x) + len(outside.x) == len(drawn)
    assert list(outside.x) == drawn["p"][drawn["is_outside"]].tolist()
    assert outside.marker.color == VERMILION
    positive = drawn[drawn["band_lo"] > 0]
    assert list(band.y) == [*positive["band_hi"], *positive["band_lo"][::-1]]


def test_a_ratio_off_the_axis_stands_at_its_end_with_its_number(mart: str) -> None:
    rows = queries.slice_shrinkage(mart)
    assert rows["depth"].is_monotonic_increasing
    rows = rows.assign(shrunk_ratio=1.1, raw_ratio=9.0)
    raw, shrunk = figures.slice_shrinkage(rows).data
    # four times what the shrunk ratios need
    assert raw.x == pytest.approx([1.4] * len(rows))
    assert [row[0] for row in raw.customdata] == [9.0] * len(rows)
    assert shrunk.x == pytest.approx([1.1] * len(rows))


def test_the_page_tells_its_findings_and_shows_its_tables(
    release: FakeRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    mart = str(release.database)
    app = opened("calibration", release.warehouse, monkeypatch)
    told = [block.value for block in app.markdown]
    for page in ("reliability", "calibrators", "shrinkage"):
        assert sentence(mart, page) in told
    errors, methods, gain = (frame.value for frame in app.dataframe)
    model_id = chosen_model(mart)
    pd.testing.assert_frame_equal(errors, queries.calibration_error(mart))
    pd.testing.assert_frame_equal(methods, queries.calibrator_comparison(mart, model_id))
    pd.testing.assert_frame_equal(gain, queries.shrinkage_gain(mart))
    assert methods["method"].tolist()[0] == "platt"
    assert methods["is_chosen"].tolist() == [True, False, False, False]


def test_findings_have_the_marts_numbers(mart: str) -> None:
    error = queries.calibration_error(mart).iloc[0]
    assert f"test is {error['calibration_error']:.5f} on the scale of p" in sentence(mart, "reliability")
    methods = queries.calibrator_comparison(mart, error["model_id"])
    best = methods[~methods["is_chosen"]].iloc[0]
    assert f"the best of the other methods, {best['method']}, has {best['test_logloss']:.6f}" in sentence(
        mart, "calibrators"
    )
    cold = queries.slice_shrinkage(mart).query("is_unseen").iloc[0]
    assert f"{cold['conversions']:,} of {cold['n']:,} rows convert" in sentence(mart, "shrinkage")
    # -1 % against none, whose interval holds 0
    assert sentence(mart, "shrinkage").split(" Of a ")[0].endswith("it is not shown to help.")


def test_without_shrinkage_the_page_says_why(
    release: FakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_with(release, tmp_path, "delete from fct_slice_shrinkage; delete from fct_shrinkage_gain")
    app = opened("calibration", root, monkeypatch)
    assert len(app.dataframe) == 2
