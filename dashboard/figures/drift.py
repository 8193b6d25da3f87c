"""How far the data moved from what the model was trained on."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from dashboard.look import BLUE, GREY, VERMILION, laid_out


def drift_by_field(drift: pd.DataFrame) -> go.Figure:
    """Excess PSI of each field and period; the field that moved most lately on top."""
    signs = {"alarm": " ▲", "watch": " △"}
    texts = [
        f"{round(x, 2) + 0.0:.2f}{signs.get(status, '')}"
        for x, status in zip(drift["psi_excess"], drift["status"], strict=True)
    ]
    shown = drift.assign(text=texts, day=drift["period"].dt.strftime("%Y-%m-%d"))
    order = shown["field"].drop_duplicates().tolist()[::-1]
    figure = go.Figure(
        go.Heatmap(
            x=shown["day"],
            y=shown["field"],
            z=shown["psi_excess"].clip(lower=0),
            text=shown["text"],
            texttemplate="%{text}",
            customdata=shown[["psi", "psi_expected", "n_current", "status"]],
            zmin=0,
            zmax=0.5,
            colorscale=[[0, "#F5F6F7"], [0.2, "#FBE3C0"], [0.5, "#F3B06B"], [1, VERMILION]],
            showscale=False,  # every cell says its number
            xgap=2,
            ygap=2,
            hovertemplate="<b>%{y}</b>, period of %{x}: %{customdata[3]}<br>PSI %{customdata[0]:.3f}, by chance"
            " %{customdata[1]:.3f}<br>%{customdata[2]:,} rows<extra></extra>",
        )
    )
    figure.update_xaxes(title="Period (its first day)", type="category")
    figure.update_yaxes(categoryorder="array", categoryarray=order)
    return laid_out(figure, 140 + 30 * len(order))


def score_drift(drift: pd.DataFrame) -> go.Figure:
    """The score's PSI by period beside what chance alone gives."""
    figure = go.Figure()
    lines = (
        ("psi", "PSI of the score", {"color": BLUE}),
        ("psi_expected", "no drift", {"color": GREY, "dash": "dash"}),
    )
    for column, name, line in lines:
        figure.add_scatter(x=drift["period"], y=drift[column], mode="lines+markers", name=name, line=line)
    figure.update_traces(hovertemplate="%{x|%Y-%m-%d}: %{y:.4f}<extra></extra>")
    figure.update_xaxes(title="Period (its first day)", tickformat="%b %d")
    figure.update_yaxes(title="Population stability index", rangemode="tozero")
    return laid_out(figure, 380)
