"""How late labels come, what is still to come, and what to make of it in training."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from dashboard.look import BLUE, GREEN, GREY, INK, ORANGE, VERMILION, interval, laid_out

LINES = ((INK, "solid"), (BLUE, "dash"), (ORANGE, "dot"), (GREEN, "dashdot"), (VERMILION, "longdash"), (GREY, "dash"))


def label_delay(curves: pd.DataFrame) -> go.Figure:
    """Share of the final conversions that has come by day since the exposure, a line and a band per group."""
    figure = go.Figure()
    shown = curves.dropna(subset=["completeness"])
    for place, (name, part) in enumerate(shown.groupby("grp", sort=False)):
        colour, dash = LINES[place % len(LINES)]
        edge = {
            "x": part["delay_days"],
            "mode": "lines",
            "line": {"width": 0},
            "showlegend": False,
            "hoverinfo": "skip",
        }
        figure.add_scatter(y=part["completeness_lo"], legendgroup=name, **edge)
        figure.add_scatter(
            y=part["completeness_hi"], legendgroup=name, fill="tonexty", fillcolor=_faint(colour), **edge
        )
        figure.add_scatter(
            x=part["delay_days"],
            y=part["completeness"],
            mode="lines",
            name=name,
            legendgroup=name,
            line={"color": colour, "dash": dash, "shape": "hv"},
            customdata=part[["completeness_lo", "completeness_hi", "at_risk"]],
            hovertemplate="<b>%{fullData.name}</b>, %{x} days: %{y:.1%} (%{customdata[0]:.1%} to %{customdata[1]:.1%})"
            "<br>%{customdata[2]:,} watched<extra></extra>",
        )
    figure.update_xaxes(title="Full days since the exposure", rangemode="tozero")
    figure.update_yaxes(title="Share of the final conversions", tickformat=".0%", range=[0, 1.02])
    return laid_out(figure, 400)


def label_maturity(periods: pd.DataFrame) -> go.Figure:
    """Conversion rate of every period: known when it ended, by now and, with its interval, in the end."""
    figure = go.Figure()
    rates = pd.DataFrame(
        {
            "expected": periods["expected_rate"],
            "lo": periods["expected_rate_lo"],
            "hi": periods["expected_rate_hi"],
        }
    )
    marks = (
        ("first_rate", "when the period ended", GREY, "circle-open", None),
        ("observed_rate", "known by now", BLUE, "circle", None),
        ("expected_rate", "expected in the end", ORANGE, "diamond-open", interval(rates, "expected", "lo", "hi")),
    )
    for column, name, colour, symbol, bars in marks:
        figure.add_scatter(
            x=periods["period"],
            y=periods[column],
            mode="markers",
            name=name,
            error_y=bars,
            marker={"color": colour, "symbol": symbol, "size": 10},
            customdata=periods[["conversions_first", "conversions", "expected_conversions", "immature_exposures"]],
            hovertemplate="%{x|%Y-%m-%d}: %{y:.2%}<br>conversions %{customdata[0]:,} then, %{customdata[1]:,} now,"
            " %{customdata[2]:,.1f} expected<br>%{customdata[3]:,} exposures immature<extra></extra>",
        )
    figure.update_xaxes(title="Period (its first day)", tickformat="%b %d")
    figure.update_yaxes(title="Conversion rate", tickformat=".2~%", rangemode="tozero")
    return laid_out(figure, 400)


def delayed_feedback(ways: pd.DataFrame) -> go.Figure:
    """Each way's change of logloss against final labels alone, with its interval; sure ones are marked."""
    figure = go.Figure()
    unsure = ~ways["is_better"] & ~ways["is_worse"] & ~ways["is_reference"]
    groups = (
        (ways[ways["is_better"]], "surely better", BLUE, "diamond"),
        (ways[unsure], "no sure difference", GREY, "circle"),
        (ways[ways["is_worse"]], "surely worse", VERMILION, "x"),
        (ways[ways["is_reference"]], "reference", INK, "square"),
    )
    for part, name, colour, symbol in groups:
        if part.empty:
            continue
        figure.add_scatter(
            x=part["delta_relative"],
            y=part["label"],
            mode="markers",
            name=name,
            error_x=interval(part, "delta_relative", "delta_relative_lo", "delta_relative_hi"),
            marker={"color": colour, "symbol": symbol, "size": 12},
            customdata=part[["delta_relative_lo", "delta_relative_hi", "calibration_ratio"]],
            hovertemplate="%{y}: %{x:+.2%} (%{customdata[0]:+.2%} to %{customdata[1]:+.2%})<br>calibration ratio"
            " %{customdata[2]:.3f}<extra></extra>",
        )
    figure.add_vline(x=0, line_color=INK, line_width=1.5)
    figure.update_xaxes(title="Logloss against mature rows only (below 0: better)", tickformat="+.2~%")
    figure.update_yaxes(categoryorder="array", categoryarray=ways["label"].tolist()[::-1])
    return laid_out(figure, 160 + 45 * len(ways))


def _faint(colour: str) -> str:
    """The colour as a band behind its line."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"
