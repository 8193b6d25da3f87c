"""What the model's choice would have brought."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.look import BLUE, GREY, INK, ORANGE, interval, laid_out

POLICIES = {"model": BLUE, "prior": ORANGE, "random": GREY}


def kpi_lift(lift: pd.DataFrame) -> go.Figure:
    """The model's gain over each baseline with its interval, one panel per objective in its own unit."""
    objectives = lift["objective"].drop_duplicates().tolist()
    units = dict(zip(lift["objective"], lift["unit"], strict=True))
    titles = [f"{name.replace('_', ' ').capitalize()}, {units[name]}" for name in objectives]
    titles = ["Conversions" if name == "conversions" else title for name, title in zip(objectives, titles, strict=True)]
    figure = make_subplots(rows=1, cols=len(objectives), horizontal_spacing=0.08, subplot_titles=titles)
    for column, objective in enumerate(objectives, start=1):
        part = lift[lift["objective"] == objective]
        labels = ["" if pd.isna(x) else f"{x:+.1%}" for x in part["lift"]]
        colours = [POLICIES.get(name, INK) for name in part["baseline"]]
        figure.add_bar(
            x="against " + part["baseline"],
            y=part["delta"],
            error_y=interval(part, "delta", "delta_lo", "delta_hi") | {"color": INK},
            text=labels,
            textposition="inside",
            insidetextanchor="start",
            textangle=0,
            marker_color=colours,
            width=0.5,
            showlegend=False,
            hovertemplate="%{x}: %{y:+,.1f} (%{text})<extra></extra>",
            row=1,
            col=column,
        )
        figure.add_hline(y=0, line_color=INK, line_width=1, row=1, col=column)
    figure.update_yaxes(title="Model minus baseline, all test periods", row=1, col=1)
    figure.update_yaxes(tickformat=",~s")
    return laid_out(figure, 430)


def value_by_period(value: pd.DataFrame) -> go.Figure:
    """Profit per 1,000 contacts of each policy by period."""
    figure = go.Figure()
    for policy, part in value.groupby("policy"):
        figure.add_scatter(
            x=part["period"],
            y=part["usd_profit_per_1k_contacts"],
            mode="lines+markers",
            name=str(policy),
            line_color=POLICIES.get(str(policy), INK),
            marker_size=9,
            hovertemplate="%{x|%Y-%m-%d}: %{y:,.2f} USD<extra></extra>",
        )
    figure.add_hline(y=0, line_color=INK, line_width=1)
    figure.update_xaxes(title="Test period (its first day)", tickformat="%b %d")
    figure.update_yaxes(title="Profit per 1,000 contacts (USD)")
    return laid_out(figure, 380)
