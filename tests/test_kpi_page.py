"""The page KPI lift: what its reader is told of profit, its assumptions and its limits."""

from __future__ import annotations

from pathlib import Path

import fake_value
import pytest
from fake_release import FakeRelease
from fake_training import NIGHTLY
from shown_page import answer, copy_with, opened, sentence, texts

from dashboard import figures, look, queries

PAGE = "kpi_lift"


def test_the_sentence_compares_profit_with_what_can_be_reached_and_what_cannot(mart: str, sweep: FakeRelease) -> None:
    rows = {
        row["baseline"]: row
        for row in fake_value.value_facts(NIGHTLY)["value_comparison"]
        if (row["policy"], row["objective"]) == ("model", "profit")
    }
    found = sentence(mart, PAGE)
    for name in ("prior", "random"):
        row = rows[name]
        said = f"{row['delta']:+,.0f} USD of profit against {name} (95 % interval {row['delta_lo']:+,.0f} to"
        said += f" {row['delta_hi']:+,.0f}, a lift of {100 * row['delta'] / row['baseline_total']:.1f} %)"
        assert said in found
    assert "against perfect" not in found
    assert "a backtest under the assumption below, not an effect of contacting." in found
    total, bound = rows["perfect"]["total"], rows["perfect"]["baseline_total"]
    assert (
        f"The profit itself is {total:+,.0f} USD (5th to 95th percentile {rows['perfect']['total_p5']:+,.0f} to"
        f" {rows['perfect']['total_p95']:+,.0f}), {100 * total / bound:.1f} % of what knowing every purchase" in found
    )
    assert "USD of profit against champion" in sentence(str(sweep.database), PAGE)
    assert "champion" not in found


def test_the_page_shows_assumptions_and_says_where_there_are_no_auctions(
    release: FakeRelease, sweep: FakeRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = "The contract names no cost column: no auctions are simulated."
    nightly, with_cost = (opened(PAGE, shown.warehouse, monkeypatch) for shown in (release, sweep))
    assert none in [text.value for text in nightly.markdown]
    assert none not in [text.value for text in with_cost.markdown]
    assert any("not an experiment" in caption.value for caption in nightly.caption)
    assert any("Nobody's bids react." in caption.value for caption in with_cost.caption)
    assert len(nightly.get("plotly_chart")) == 5
    assert with_cost.selectbox[0].options == ["nobody", "champion", "prior", "random"]
    assert nightly.selectbox[0].options == ["nobody", "prior", "random"]


@pytest.mark.parametrize("table", ["fct_value_curve", "fct_value_by_k"])
def test_an_empty_mart_says_what_to_run(
    table: str, release: FakeRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_with(release, tmp_path, f"delete from {table}")
    found = texts(opened(PAGE, root, monkeypatch))
    assert any(text.startswith(f"The mart `{table}` of this release has no rows to show here.") for text in found)


def test_every_baseline_is_drawn_with_its_interval_and_its_percentiles(mart: str) -> None:
    rows = queries.kpi_lift(mart)
    assert set(rows["baseline"]) == {"prior", "random"}
    assert set(queries.kpi_totals(mart)["baseline"]) == {"prior", "random", "perfect"}
    figure = figures.kpi_lift(rows)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    dots = [trace for trace in figure.data if trace.type == "scatter"]
    assert [len(bar.x) for bar in bars] == [2, 2, 2]
    for bar, dot, (_, part) in zip(bars, dots, rows.groupby("objective"), strict=True):
        assert list(bar.y) == part["delta"].tolist()
        assert [y + e for y, e in zip(bar.y, bar.error_y.array, strict=True)] == pytest.approx(
            part["delta_hi"].tolist()
        )
        low = [y - e for y, e in zip(dot.y, dot.error_y.arrayminus, strict=True)]
        assert low == pytest.approx(part["delta_p5"].tolist())


def test_the_curve_marks_the_budget_and_hides_the_bound_at_first(mart: str) -> None:
    rows = queries.value_curve(mart)
    figure = figures.value_curve(rows)
    [line] = [shape for shape in figure.layout.shapes if shape.x0 == shape.x1 and shape.x0]
    assert line.x0 == 200  # 20 of each of 10 candidates
    shown = {trace.name: trace.visible for trace in figure.data if trace.mode == "lines" and trace.fill is None}
    assert shown == {
        "model": True,
        "prior": True,
        "random (expected)": True,
        "perfect foresight (upper bound)": "legendonly",
    }
    model = next(trace for trace in figure.data if trace.name == "model")
    assert list(model.y) == rows.loc[rows["policy"] == "model", "profit"].tolist()


def test_the_heatmap_marks_the_assumed_cell_and_says_where_profit_ends(mart: str) -> None:
    rows = queries.value_sensitivity(mart, "nobody")
    heatmap, words = figures.value_sensitivity(rows).data
    assert heatmap.z.shape == (7, 8)
    bold = [text for line in heatmap.text for text in line if text.startswith("<b>[")]
    [assumed] = rows[rows["is_assumed"]].to_dict("records")
    assert bold == [f"<b>[{assumed['delta']:+,.0f} ▲]</b>"]
    assert {text[-1] for line in heatmap.text for text in line} >= {"▲", "▼"}
    margin = rows.drop_duplicates("margin_rate")
    assert list(words.text) == [f"<b>{cost:.2g}</b>" for cost in margin["break_even_contact_cost"]]
    against = figures.value_sensitivity(queries.value_sensitivity(mart, "prior")).data[1]
    assert set(against.text) == {"any cost"}  # both contact equally many


def test_deciles_and_periods_leave_the_bound_out_and_title_their_axes(mart: str) -> None:
    deciles, periods = queries.value_by_decile(mart), queries.value_by_period(mart)
    assert {trace.name for trace in figures.value_by_decile(deciles).data} == {"model", "prior"}
    drawn = figures.value_by_period(periods)
    assert {trace.name for trace in drawn.data} == {"model", "prior", "random"}
    curve, cells = queries.value_curve(mart), queries.value_sensitivity(mart, "nobody")
    for figure in (
        drawn,
        figures.value_by_decile(deciles),
        figures.value_curve(curve),
        figures.value_sensitivity(cells),
    ):
        assert all(axis.title.text for axis in [*figure.select_xaxes(), *figure.select_yaxes()])
    assert figures.value_by_decile(deciles).data[0].marker.color == look.BLUE


def test_ranks_of_k_agree_where_every_objective_is_the_same_multiple(mart: str) -> None:
    """In these facts sales are three times the conversions, so every objective ranks k alike; a larger k finds more."""
    sql = "select distinct rank_correlation_with_profit from fct_value_by_k"
    assert answer(mart, sql) == (1.0,)
    best = "select k from fct_value_by_k where objective = 'profit' and rank_by_objective = 1"
    assert answer(mart, best) == (max(NIGHTLY.ks),)
