"""How far each rule of the gate is from its threshold, and the intervals that a promotion rests on."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from dashboard.look import BLUE, GREEN, GREY, INK, ORANGE, VERMILION, interval, laid_out

OUTCOMES = {
    "pass": (GREEN, "holds"),
    "fail": (VERMILION, "does not hold"),
    "waived": (ORANGE, "does not hold, waived"),
    "missing": (GREY, "evidence missing"),
}
SHOWN = {True: (BLUE, "circle", "shown"), False: (VERMILION, "x", "not shown")}
SIGNS = {"<=": "≤", ">=": "≥", "==": "="}


def decision_rules(rules: pd.DataFrame) -> go.Figure:
    """Each rule's room to its threshold; the first row on top."""
    figure = go.Figure()
    for outcome, (colour, words) in OUTCOMES.items():
        part = rules[rules["outcome"] == outcome]
        if part.empty:
            continue
        room = part["headroom"].fillna(0)
        values = ["no value" if pd.isna(value) else f"{value:.4g}" for value in part["value"]]
        signs = part["operator"].replace(SIGNS)
        texts = [f"{v} {s} {t:.4g}" for v, s, t in zip(values, signs, part["threshold"], strict=True)]
        figure.add_bar(x=room, y=part["rule"], orientation="h", width=0.14, marker_color=colour, showlegend=False)
        figure.add_scatter(
            x=room,
            y=part["rule"],
            mode="markers+text",
            name=words,
            text=texts,
            textposition=["middle left" if x < 0 else "middle right" for x in room],
            marker={
                "color": colour,
                "size": 13,
                "symbol": ["square" if s == "hard" else "circle" for s in part["severity"]],
            },
            customdata=part[["severity", "mart", "metric", "why"]],
            hovertemplate="<b>%{y}</b> (%{customdata[0]})<br>%{text}<br>%{customdata[1]}: %{customdata[2]}"
            "<br>%{customdata[3]}<extra></extra>",
        )
    figure.add_vline(x=0, line_color=INK, line_width=1.5)
    figure.update_xaxes(
        title="Room to the threshold, relative: right of 0 the rule holds (squares: hard, circles: soft)",
        range=[-1.45, 1.45],
        tickvals=[-1, -0.5, 0, 0.5, 1],
    )
    figure.update_yaxes(categoryorder="array", categoryarray=rules["rule"].tolist()[::-1])
    return laid_out(figure, 150 + 34 * len(rules), barmode="overlay")


def incumbent_comparison(rows: pd.DataFrame) -> go.Figure:
    """Differences in test logloss with their intervals, and for each how far its upper end may reach; the first row on
    top."""
    figure = go.Figure()
    for holds, (colour, symbol, words) in SHOWN.items():
        part = rows[rows["holds"].eq(True) == holds]  # null is not shown either
        if part.empty:
            continue
        figure.add_scatter(
            x=part["delta_logloss"],
            y=part["label"],
            mode="markers",
            name=words,
            marker={"color": colour, "size": 12, "symbol": symbol},
            error_x=interval(part, "delta_logloss", "delta_lo", "delta_hi") | {"color": colour},
            customdata=part[["delta_lo", "delta_hi", "allowed_delta"]],
            hovertemplate="<b>%{y}</b><br>%{x:+.3g} (%{customdata[0]:+.3g} to %{customdata[1]:+.3g}), may reach"
            " %{customdata[2]:.3g}<extra></extra>",
        )
    figure.add_scatter(
        x=rows["allowed_delta"],
        y=rows["label"],
        mode="markers",
        name="what the upper end may reach",
        marker={"color": INK, "size": 22, "symbol": "line-ns", "line": {"color": INK, "width": 2.5}},
        hovertemplate="<b>%{y}</b><br>may reach %{x:.3g}<extra></extra>",
    )
    figure.add_vline(x=0, line_color=GREY, line_width=1.5)
    figure.update_xaxes(title="Difference in test logloss, nats, with its 95 % interval: left of 0 is better")
    figure.update_yaxes(categoryorder="array", categoryarray=rows["label"].tolist()[::-1])
    return laid_out(figure, 170 + 40 * len(rows))
