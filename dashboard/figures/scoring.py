"""The scores that are served: what was checked, what one entity gets, what took the time, what a shadow says."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.look import BLUE, GREEN, GREY, INK, ORANGE, VERMILION, interval, laid_out

CONFIDENCE = {"high": BLUE, "medium": ORANGE, "low": VERMILION}
PERCENTILES = {  # lightest to darkest, and symbols that differ
    "p50_s": ("median", "circle", BLUE),
    "p90_s": ("90 %", "diamond", GREEN),
    "p95_s": ("95 %", "square", ORANGE),
    "p99_s": ("99 %", "triangle-up", VERMILION),
    "max_s": ("slowest", "x", INK),
}


def score_audits(audits: pd.DataFrame) -> go.Figure:
    """How far inside its band each audited value lies; the first row on top."""
    measured = audits["value"].notna()
    kinds = (
        ("passed", GREEN, "circle", audits["passed"] & measured),
        ("failed", VERMILION, "x", ~audits["passed"]),
        ("nothing to measure", GREY, "circle-open", audits["passed"] & ~measured),
    )
    figure = go.Figure()
    for words, colour, symbol, chosen in kinds:
        part = audits[chosen]
        if part.empty:
            continue
        room = part["headroom"].fillna(0)
        bands = zip(part["value"], part["low"], part["high"], strict=True)
        texts = [_in_band(value, low, high) for value, low, high in bands]
        figure.add_bar(x=room, y=part["label"], orientation="h", width=0.14, marker_color=colour, showlegend=False)
        figure.add_scatter(
            x=room,
            y=part["label"],
            mode="markers+text",
            name=words,
            text=texts,
            textposition=["middle left" if x < 0 else "middle right" for x in room],
            marker={"color": colour, "size": 13, "symbol": symbol},
            customdata=part[["score_source", "model_id", "why"]],
            hovertemplate="<b>%{y}</b>: %{text}<br>%{customdata[0]}, model %{customdata[1]}<br>%{customdata[2]}"
            "<extra></extra>",
        )
    figure.add_vline(x=0, line_color=INK, line_width=1.5)
    figure.update_xaxes(
        title="Room to the nearer end of the band, relative: left of 0 the value is outside",
        range=[-1.8, 1.8],
        tickvals=[-1, -0.5, 0, 0.5, 1],
    )
    figure.update_yaxes(categoryorder="array", categoryarray=audits["label"].tolist()[::-1])
    return laid_out(figure, 150 + 34 * len(audits), barmode="overlay")


def _in_band(value: float, low: float, high: float) -> str:
    """`1.1, allowed 0.33 to 3`."""
    found = "no value" if pd.isna(value) else _short(value)
    if pd.isna(low) and pd.isna(high):
        return found
    if pd.isna(low):
        return f"{found}, allowed ≤ {_short(high)}"
    if pd.isna(high):
        return f"{found}, allowed ≥ {_short(low)}"
    return f"{found}, allowed {_short(low)}" + ("" if low == high else f" to {_short(high)}")


def _short(number: float) -> str:
    """A count in full, anything else to four digits."""
    return f"{number:,.0f}" if number == round(number) else f"{number:.4g}"


def entity_scores(scores: pd.DataFrame) -> go.Figure:
    """An entity's best candidates by p, best on top; the colour says how much the model knew."""
    names = [
        f"{rank}. {label}" for rank, label in zip(scores["rank_in_entity"], scores["candidate_label"], strict=True)
    ]
    shown = scores.assign(name=names)
    figure = go.Figure()
    for band, colour in CONFIDENCE.items():
        part = shown[shown["confidence_band"] == band]
        if part.empty:
            continue
        figure.add_bar(
            x=part["p"],
            y=part["name"],
            orientation="h",
            name=f"{band} confidence",
            marker_color=colour,
            text=[f"{p:.2%}{'' if band == 'high' else f' ({band})'}" for p in part["p"]],
            textposition="outside",
            cliponaxis=False,
            customdata=part[["oov_share", "raw_score"]],
            hovertemplate="%{y}: p %{x:.3%}, raw score %{customdata[1]:.4f}<br>%{customdata[0]:.0%} of the fields have"
            " a value unknown to the model<extra></extra>",
        )
    figure.update_xaxes(title="Calibrated conversion rate p", tickformat=".1%", range=[0, 1.35 * shown["p"].max()])
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1])
    return laid_out(figure, 130 + 30 * len(shown))


def score_stages(stages: pd.DataFrame) -> go.Figure:
    """Share of the blocks' time by stage, the dominating one marked, beside the spread of each over the blocks."""
    figure = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        column_widths=[0.4, 0.6],
    )
    parts = stages[stages["is_part"]]
    figure.add_bar(
        x=parts["share_of_time"],
        y=parts["stage"],
        orientation="h",
        marker_color=[ORANGE if dominant else GREY for dominant in parts["is_dominant"]],
        text=[
            f"{share:.0%}{' ◀ dominates' if dominant else ''}"
            for share, dominant in zip(parts["share_of_time"].fillna(0), parts["is_dominant"], strict=True)
        ],
        textposition="outside",
        cliponaxis=False,
        showlegend=False,
        customdata=parts[["total_s", "blocks"]],
        hovertemplate="%{y}: %{customdata[0]:.2f} s over %{customdata[1]} blocks<extra></extra>",
        row=1,
        col=1,
    )
    for column, (words, symbol, colour) in PERCENTILES.items():
        figure.add_scatter(
            x=stages[column],
            y=stages["stage"],
            mode="markers",
            name=words,
            marker={"color": colour, "size": 10, "symbol": symbol},
            hovertemplate=f"%{{y}}, {words}: %{{x:.3f}} s<extra></extra>",
            row=1,
            col=2,
        )
    figure.update_xaxes(
        title="Share of the blocks' time", tickformat=".0%", range=[0, 1.6 * parts["share_of_time"].max()], col=1
    )
    figure.update_xaxes(title="Seconds of a block, percentiles over the blocks", rangemode="tozero", col=2)
    figure.update_yaxes(categoryorder="array", categoryarray=stages["stage"].tolist()[::-1])
    return laid_out(figure, 150 + 32 * len(stages))


def shadow(comparison: pd.DataFrame) -> go.Figure:
    """Mean p of both models by decile of the serving p."""
    deciles = comparison[comparison["scope"] == "decile"]
    lines = (
        ("mean_p", "serving model", {"color": BLUE}, "circle"),
        ("mean_p_shadow", "shadow", {"color": ORANGE, "dash": "dash"}, "diamond"),
    )
    figure = go.Figure()
    for column, name, line, symbol in lines:
        figure.add_scatter(
            x=deciles["decile"],
            y=deciles[column],
            mode="lines+markers",
            name=name,
            line=line,
            marker={"symbol": symbol, "size": 9},
            customdata=deciles[["pairs", "mean_p_ratio", "correlation"]],
            hovertemplate="decile %{x}, %{customdata[0]:,} pairs: %{y:.3%}<br>shadow over serving %{customdata[1]:.3f},"
            " correlation of raw scores %{customdata[2]:.3f}<extra></extra>",
        )
    figure.update_xaxes(title="Decile of the serving p, lowest first", dtick=1)
    figure.update_yaxes(title="Mean p", tickformat=".1%", rangemode="tozero")
    return laid_out(figure, 380)


def staleness_cost(ages: pd.DataFrame) -> go.Figure:
    """By age of the scores: logloss (left) and captured conversions (right) against fresh ones, with intervals."""
    figure = make_subplots(
        rows=1,
        cols=2,
        horizontal_spacing=0.12,
        subplot_titles=("Test logloss against fresh scores", "Captured conversions against fresh scores"),
    )
    sides = (
        ("delta_relative", "is_worse", "logloss", "Relative (above 0: worse)"),
        ("captured_relative", "captures_fewer", "captured", "Relative (below 0: worse)"),
    )
    for column, (name, sure, amount, title) in enumerate(sides, start=1):
        lo, hi = f"{name}_lo", f"{name}_hi"
        figure.add_scatter(
            x=ages["age_days"],
            y=ages[name],
            mode="lines+markers",
            error_y=interval(ages, name, lo, hi),
            line={"color": GREY},
            marker={
                "color": [VERMILION if is_sure else BLUE for is_sure in ages[sure]],
                "symbol": ["x" if is_sure else "circle" for is_sure in ages[sure]],
                "size": 11,
            },
            showlegend=False,
            customdata=ages[[lo, hi, amount]],
            hovertemplate=f"%{{x}} days: %{{y:+.2%}} (%{{customdata[0]:+.2%}} to %{{customdata[1]:+.2%}})<br>{amount}"
            " %{customdata[2]}<extra></extra>",
            row=1,
            col=column,
        )
        figure.update_yaxes(title=title, tickformat="+.1~%", row=1, col=column)
    figure.add_hline(y=0, line_color=INK, line_width=1.5)
    figure.update_xaxes(title="Days by which the scores are older", tickvals=ages["age_days"].tolist())
    return laid_out(figure, 380)
