"""How the warehouse does: promises, nights, where the time goes, and what was expected against what came."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.look import BLUE, GREY, INK, ORANGE, VERMILION, interval, laid_out

FEW = 10  # dates that have room for a tick each


def slo(promises: pd.DataFrame) -> go.Figure:
    """What is left of each promise's error budget; a budget overspent ends left of zero, at -100 % at most."""
    shown = promises.dropna(subset=["error_budget_left"])
    figure = go.Figure()
    for is_alarm, name, colour, pattern in ((False, "kept", BLUE, ""), (True, "alarm", VERMILION, "/")):
        part = shown[shown["is_alarm"] == is_alarm]
        if part.empty:
            continue
        figure.add_bar(
            x=part["error_budget_left"].clip(lower=-1),
            y=part["title"],
            orientation="h",
            name=name,
            marker={"color": colour, "pattern": {"shape": pattern}},
            customdata=part[["error_budget_left", "good", "observations", "attained", "objective"]],
            hovertemplate="%{y}: %{customdata[0]:.1%} left<br>%{customdata[1]:,} of %{customdata[2]:,} good:"
            " %{customdata[3]:.2%} of %{customdata[4]:.2%} promised<extra></extra>",
        )
    figure.add_vline(x=0, line_color=INK, line_width=1.5)
    figure.update_xaxes(title="Error budget left", tickformat=".0%", range=[-1.05, 1.05])
    figure.update_yaxes(categoryorder="array", categoryarray=promises["title"].tolist()[::-1])
    return laid_out(figure, 140 + 40 * len(promises))


def nights(history: pd.DataFrame) -> go.Figure:
    """Wall time of each night by what it served, above the logloss of the model it judged."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    looks = (
        ("model", "champion scored", BLUE, "circle"),
        ("stale", "stale scores", ORANGE, "x"),
        ("prior", "prior scored", GREY, "square"),
    )
    for source, name, colour, symbol in looks:
        part = history[history["score_source"] == source]
        if part.empty:
            continue
        figure.add_scatter(
            row=1,
            col=1,
            x=part["cycle_date"],
            y=part["wall_s"],
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 11},
            customdata=part[["verdict", "k", "started_at"]],
            hovertemplate="%{x|%Y-%m-%d}: %{y:,.0f} s<br>%{customdata[0]}, k = %{customdata[1]}<br>started"
            " %{customdata[2]|%Y-%m-%d %H:%M} UTC<extra></extra>",
        )
    figure.add_scatter(
        row=2,
        col=1,
        x=history["cycle_date"],
        y=history["logloss"],
        mode="lines+markers",
        name="test logloss of the judged k",
        line={"color": INK, "width": 1.5},
        marker={"size": 7, "symbol": "diamond"},
        hovertemplate="%{x|%Y-%m-%d}: %{y:.5f}<extra></extra>",
    )
    figure.update_yaxes(title="Wall time, s", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title="Logloss", row=2, col=1)
    _dates(figure, "DATE of the night", history["cycle_date"])
    return laid_out(figure, 460)


def stage_percentiles(stages: pd.DataFrame) -> go.Figure:
    """Median to 95th percentile of every stage over the nights, and the last night."""
    figure = go.Figure()
    figure.add_scatter(
        x=stages["p50_s"],
        y=stages["stage"],
        mode="markers",
        name="median to 95th percentile",
        marker={"color": BLUE, "symbol": "line-ns-open", "size": 14},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": (stages["p95_s"] - stages["p50_s"]).tolist(),
            "arrayminus": [0.0] * len(stages),
            "thickness": 4,
            "width": 0,
            "color": BLUE,
        },
        customdata=stages[["n", "p90_s", "p95_s", "p99_s", "max_s"]],
        hovertemplate="%{y}: median %{x:.1f} s of %{customdata[0]} nights<br>p90 %{customdata[1]:.1f}, p95"
        " %{customdata[2]:.1f}, p99 %{customdata[3]:.1f}, longest %{customdata[4]:.1f} s<extra></extra>",
    )
    figure.add_scatter(
        x=stages["last_s"],
        y=stages["stage"],
        mode="markers",
        name="last time",
        marker={"color": ORANGE, "symbol": "diamond", "size": 10},
        hovertemplate="%{y}: %{x:.1f} s the last time<extra></extra>",
    )
    figure.update_xaxes(title="Wall time, s", rangemode="tozero")
    figure.update_yaxes(categoryorder="array", categoryarray=stages["stage"].tolist()[::-1])
    return laid_out(figure, 140 + 26 * len(stages))


def live_performance(periods: pd.DataFrame) -> go.Figure:
    """Conversions and logloss of the served scores by period: estimated with interval, and realised once final."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    final = periods[periods["is_mature"]]
    parts = (
        (1, "expected_conversions", "expected_lo", "expected_hi", "conversions", ",.0f"),
        (2, "estimated_logloss", "estimated_logloss_lo", "estimated_logloss_hi", "realised_logloss", ".5f"),
    )
    for row, centre, lo, hi, came, form in parts:
        figure.add_scatter(
            row=row,
            col=1,
            x=periods["period"],
            y=periods[centre],
            mode="markers",
            name="estimated",
            legendgroup="estimated",
            showlegend=row == 1,
            error_y=interval(periods, centre, lo, hi),
            marker={"color": ORANGE, "symbol": "diamond-open", "size": 11},
            customdata=periods[[lo, hi]],
            hovertemplate=f"%{{x|%Y-%m-%d}}: %{{y:{form}}} (%{{customdata[0]:{form}}} to %{{customdata[1]:{form}}})"
            "<extra>estimated</extra>",
        )
        figure.add_scatter(
            row=row,
            col=1,
            x=final["period"],
            y=final[came],
            mode="markers",
            name="realised, labels final",
            legendgroup="realised",
            showlegend=row == 1,
            marker={"color": BLUE, "symbol": "circle", "size": 11},
            hovertemplate=f"%{{x|%Y-%m-%d}}: %{{y:{form}}}<extra>realised</extra>",
        )
    figure.add_scatter(
        row=2,
        col=1,
        x=final["period"],
        y=final["base_rate_logloss"],
        mode="markers",
        name="the period's rate for all",
        marker={"color": GREY, "symbol": "line-ew-open", "size": 16},
        hovertemplate="%{x|%Y-%m-%d}: %{y:.5f}<extra>base rate</extra>",
    )
    figure.update_yaxes(title="Conversions", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title="Logloss", row=2, col=1)
    _dates(figure, "Period (its first day)", periods["period"])
    return laid_out(figure, 480)


def _dates(figure: go.Figure, title: str, days: pd.Series) -> None:
    """The shared x axis of both rows, in days: a tick for each of a few days (plotly would put hours between them and
    repeat the day), and room beside a single one."""
    shown = pd.to_datetime(days.drop_duplicates()).sort_values()
    if len(shown) <= FEW:
        ticks = shown.dt.strftime("%Y-%m-%d").tolist()
        figure.update_xaxes(tickmode="array", tickvals=ticks, ticktext=ticks)
    figure.update_xaxes(tickformat="%Y-%m-%d")
    if len(shown) == 1:
        around = [(shown.iloc[0] + dt.timedelta(days=side)).strftime("%Y-%m-%d") for side in (-1, 1)]
        figure.update_xaxes(range=around)
    figure.update_xaxes(title=title, row=2, col=1)


def data_quality(outcomes: pd.DataFrame) -> go.Figure:
    """Rows of each input by why they were put aside; those kept are told beside it."""
    aside = outcomes[~outcomes["is_kept"]]
    figure = go.Figure()
    figure.add_bar(
        x=aside["n_rows"],
        y=aside["source"] + ": " + aside["outcome"],
        orientation="h",
        marker={"color": ORANGE},
        customdata=aside[["share_of_source"]],
        hovertemplate="%{y}: %{x:,} rows, %{customdata[0]:.3%} of the input<extra></extra>",
        showlegend=False,
    )
    figure.update_xaxes(title="Rows in quarantine", rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    return laid_out(figure, 140 + 30 * len(aside))
