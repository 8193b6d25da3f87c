"""How far each rule of the gate is from its threshold."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from dashboard.look import GREEN, GREY, INK, VERMILION, laid_out

OUTCOMES = {"pass": (GREEN, "holds"), "fail": (VERMILION, "does not hold"), "missing": (GREY, "evidence missing")}
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
