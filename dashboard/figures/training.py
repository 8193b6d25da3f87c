"""How training went: logloss by epoch, and CPU time by stage."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.look import BLUE, GREEN, GREY, INK, ORANGE, VERMILION, laid_out

STAGES = {  # of a sweep, then of mixing
    "fit": BLUE,
    "calibrate": GREEN,
    "save": GREY,
    "epoch": BLUE,
    "merge": ORANGE,
    "validate": GREEN,
    "finish": GREY,
}
COLUMNS = 3


def training_curve(epochs: pd.DataFrame) -> go.Figure:
    """A panel per k: logloss on train and valid relative to the epoch kept, where both lines meet at 0.

    The axes reach as high as the rise on valid after the epoch kept needs; the first epochs come down from above.
    """
    models = [part for _, part in epochs.groupby("model_id", sort=False)]
    names = [f"k = {m['k'].iloc[0]}{' ▲ overfits' if m['is_overfit_alarm'].iloc[0] else ''}" for m in models]
    lines = math.ceil(len(models) / COLUMNS)
    columns = min(COLUMNS, len(models))
    figure = make_subplots(
        rows=lines,
        cols=columns,
        subplot_titles=names,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.22,
    )
    for place, part in enumerate(models):
        where = {"row": place // COLUMNS + 1, "col": place % COLUMNS + 1, "showlegend": place == 0}
        for column, words, colour in (("train_above_best", "train", GREY), ("valid_above_best", "valid", BLUE)):
            figure.add_scatter(
                x=part["epoch"],
                y=part[column],
                mode="lines+markers",
                name=words,
                legendgroup=words,
                line={"color": colour},
                marker={"size": 5},
                customdata=part[[f"{words}_logloss"]],
                hovertemplate=f"epoch %{{x}}, {words}: %{{customdata[0]:.5f}} (%{{y:+.2%}})<extra></extra>",
                **where,
            )
        kept = part[part["is_best_epoch"]]
        marked = [(kept, "epoch kept", INK, "diamond")]
        if epochs["is_overfit_alarm"].any():
            past = part[part["is_overfit"] & part["is_overfit_alarm"]]
            marked.append((past, "overfit: valid above, train below", VERMILION, "x"))
        for rows, words, colour, symbol in marked:
            figure.add_scatter(
                x=rows["epoch"] if len(rows) else [None],
                y=rows["valid_above_best"] if len(rows) else [None],
                mode="markers",
                name=words,
                legendgroup=words,
                marker={"color": colour, "size": 11, "symbol": symbol},
                hovertemplate=f"epoch %{{x}}: {words}<extra></extra>",
                **where,
            )
        figure.update_xaxes(title="Epoch", row=where["row"], col=where["col"])
    figure.add_hline(y=0, line_color=INK, line_width=1)
    rise = epochs.loc[epochs["is_overfit"], "valid_above_best"].max()
    top = max(0.02, 2 * rise) if pd.notna(rise) else 0.02
    bottom = min(epochs["train_above_best"].min(), -0.25 * top) * 1.1
    figure.update_yaxes(range=[bottom, top], tickformat="+.1~%")
    for line in range(lines):
        figure.update_yaxes(title="Logloss, against the epoch kept", row=line + 1, col=1)
    return laid_out(figure, 110 + 250 * lines).update_layout(legend={"y": 1 + 0.22 / lines}, margin={"t": 100})


def training_cost(stages: pd.DataFrame) -> go.Figure:
    """CPU seconds by stage of the seed that goes live, one bar per model; skewed stages say by how much."""
    shown = stages[stages["is_shipping_seed"]]
    figure = go.Figure()
    for stage, colour in STAGES.items():
        part = shown[shown["stage"] == stage]
        if part.empty:
            continue
        figure.add_bar(
            x=part["cpu_s"],
            y=part["label"],
            orientation="h",
            name=stage,
            marker={"color": colour, "pattern": {"shape": ["/" if skewed else "" for skewed in part["is_skewed"]]}},
            customdata=part[["n_partitions", "peak_rss_mib"]],
            hovertemplate=f"%{{y}}, {stage}: %{{x:.1f}} CPU s over %{{customdata[0]}} partitions,"
            " at most %{customdata[1]:.0f} MiB<extra></extra>",
        )
    totals = shown.groupby("label")["cpu_s"].sum().sort_values()
    ratios = shown.assign(ratio=shown[["rows_max_over_median", "wall_max_over_median"]].max(axis=1))
    skewed = ratios[ratios["is_skewed"]].groupby("label")["ratio"].max()
    figure.add_scatter(
        x=totals[skewed.index],
        y=skewed.index,
        mode="text",
        text=[f"  ▲ {ratio:.1f} ×" for ratio in skewed],
        textposition="middle right",
        showlegend=False,
        hoverinfo="skip",
    )
    title = "CPU seconds of training, compiling apart (hatched, ▲: the largest partition over the median)"
    figure.update_xaxes(title=title, range=[0, 1.15 * totals.max()])
    figure.update_yaxes(categoryorder="array", categoryarray=totals.index.tolist())
    return laid_out(figure, 150 + 30 * len(totals), barmode="stack").update_layout(legend_traceorder="normal")
