"""The look that all figures share: colours, layout, error bars.

The colours are told apart by readers who confuse red and green (M. Okabe and K. Ito, 2008), and never carry a meaning
alone: symbols or texts say it too.
"""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

BLUE, ORANGE, GREEN, VERMILION, GREY, INK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#9AA3AD", "#1B1F24"
GRID = "#E3E7EB"


def laid_out(figure: go.Figure, height: int, **layout: object) -> go.Figure:
    """The look all figures share."""
    figure.update_layout(
        height=height,
        template="simple_white",
        font={"size": 14, "color": INK, "family": "Source Sans, sans-serif"},
        margin={"l": 10, "r": 20, "t": 50, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "title": None},
        **layout,
    )
    figure.update_xaxes(gridcolor=GRID, automargin=True, showgrid=True, title_font_size=14)
    figure.update_yaxes(gridcolor=GRID, automargin=True, showgrid=True, title_font_size=14)
    return figure


def interval(rows: pd.DataFrame, centre: str, lo: str, hi: str) -> dict[str, object]:
    """Plotly's error bars from the ends of an interval; nothing on a side where the end is not beyond the centre."""
    above, below = (rows[hi] - rows[centre]).clip(lower=0), (rows[centre] - rows[lo]).clip(lower=0)
    lengths = {"array": above.tolist(), "arrayminus": below.tolist()}
    return {"type": "data", "symmetric": False, "thickness": 1.6, "width": 5, **lengths}


def log_ticks(values: pd.Series, at_most: int = 3) -> dict[str, object]:
    """A logarithmic axis over `values` with few ticks in plain decimals; Plotly's own run into each other."""
    positive = values[values > 0]
    if positive.empty:
        return {"type": "log"}
    low, high = positive.min() / 1.2, positive.max() * 1.2
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    shown: list[float] = []
    for steps in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):  # the finest that fits
        shown = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(shown) <= at_most:
            break
    texts = [f"{value:.12f}".rstrip("0").rstrip(".") for value in shown]
    return {"type": "log", "tickvals": shown, "ticktext": texts}
