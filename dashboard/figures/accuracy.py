"""What is gained and what it costs: by k, against other algorithms, by lever."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.look import BLUE, GREY, INK, ORANGE, VERMILION, interval, laid_out, log_ticks


def accuracy_cost_by_k(candidates: pd.DataFrame, seeds: pd.DataFrame) -> go.Figure:
    """Left: logloss against the best k with paired intervals, the margin and the single seeds; right: against cost."""
    figure = make_subplots(
        rows=1,
        cols=2,
        horizontal_spacing=0.12,
        subplot_titles=("Paired difference to the best k", "Accuracy against cost"),
    )
    compared = candidates[~candidates["is_baseline"]]
    places = {k: place for place, k in enumerate(sorted(compared["k"].unique()))}
    _add_seeds(figure, seeds, places)
    chosen, barred = compared["is_verdict"], compared["is_infeasible"]
    dominated = compared["is_dominated"] & ~chosen & ~barred
    groups = (
        (compared[chosen], "chosen k", BLUE, "diamond"),
        (compared[~chosen & ~dominated & ~barred], "other k", ORANGE, "circle"),
        (compared[dominated], "dominated k", GREY, "x"),
        (compared[barred], "breaks a limit", GREY, "square-open"),
    )
    front = compared[compared["is_on_front"]].sort_values("usd_per_1m_scores")
    figure.add_scatter(
        x=front["usd_per_1m_scores"],
        y=front["normalized_entropy_seed_mean"],
        mode="lines",
        name="Pareto front",
        line={"color": GREY, "width": 1, "shape": "hv"},
        hoverinfo="skip",
        row=1,
        col=2,
    )
    for part, name, colour, symbol in groups:
        if part.empty:
            continue
        marker = {"color": colour, "size": 13, "symbol": symbol}
        shared = {"mode": "markers+text", "name": name, "legendgroup": name, "marker": marker}
        labels = [f"k = {k}" for k in part["k"]]
        paired = interval(part, "delta_logloss", "delta_lo_simultaneous", "delta_hi_simultaneous")
        figure.add_scatter(
            x=part["k"].map(places),
            y=part["delta_logloss"],
            customdata=labels,
            error_y=paired,
            row=1,
            col=1,
            **(shared | {"mode": "markers"}),
            hovertemplate="%{customdata}: %{y:+.6f} nats<extra></extra>",
        )
        figure.add_scatter(
            x=part["usd_per_1m_scores"],
            y=part["normalized_entropy_seed_mean"],
            text=labels,
            textposition="top center",
            showlegend=False,
            row=1,
            col=2,
            **shared,
            hovertemplate="%{text}: normalized entropy %{y:.4f}, %{x:.4g} USD per million<extra></extra>",
        )
    margin = compared["margin"].max()
    if pd.notna(margin):  # a trace and not a shape, so that the axis makes room for it
        line = {"color": VERMILION, "dash": "dash"}
        figure.add_scatter(
            x=list(places.values()),
            y=[margin] * len(places),
            mode="lines",
            name="margin: an interval below it is not inferior",
            line=line,
            row=1,
            col=1,
        )
    figure.add_hline(y=0, line_color=INK, line_width=1, row=1, col=1)
    ticks = {"tickvals": list(places.values()), "ticktext": [f"k = {k}" for k in places]}
    figure.update_xaxes(title="Latent factors k", range=[-0.5, len(places) - 0.5], **ticks, row=1, col=1)
    figure.update_yaxes(title="Test logloss minus the best (nats)", tickformat="+.5~f", row=1, col=1)
    figure.update_xaxes(
        title="USD per million scores (logarithmic)", **log_ticks(compared["usd_per_1m_scores"]), row=1, col=2
    )
    figure.update_yaxes(title="Normalized entropy (lower is better)", row=1, col=2)
    return laid_out(figure, 480).update_layout(legend={"y": 1.12}, margin={"t": 90})


def _add_seeds(figure: go.Figure, seeds: pd.DataFrame, places: dict[int, int]) -> None:
    """Each seed of each k as a dot beside the mean; nothing where each k has one seed, which is the mean."""
    if seeds["seed"].nunique() < 2:
        return
    figure.add_scatter(
        x=[places[k] + 0.22 for k in seeds["k"]],
        y=seeds["logloss_minus_best"],
        mode="markers",
        name="single seeds",
        marker={"color": INK, "size": 6, "opacity": 0.45},
        customdata=seeds[["k", "seed"]],
        hovertemplate="k = %{customdata[0]}, seed %{customdata[1]}: %{y:+.6f} nats<extra></extra>",
        row=1,
        col=1,
    )


def cost_by_volume(costs: pd.DataFrame) -> go.Figure:
    """USD a month by model at 1, 10 and 100 times today's scores: scoring and storage, and training on top."""
    factors = sorted(costs["volume_factor"].unique())
    figure = make_subplots(
        rows=1,
        cols=len(factors),
        horizontal_spacing=0.08,
        subplot_titles=[f"{factor} × today's scores" for factor in factors],
    )
    for place, factor in enumerate(factors, start=1):
        mine = costs[costs["volume_factor"] == factor]
        marginal = mine["usd_scoring"] + mine["usd_storage"]
        for name, usd, colour in (("scoring and storage", marginal, BLUE), ("training", mine["usd_training"], GREY)):
            figure.add_bar(
                x=mine["label"],
                y=usd,
                name=name,
                marker_color=colour,
                legendgroup=name,
                showlegend=place == 1,
                hovertemplate="%{x}, " + name + ": %{y:.4g} USD a month<extra></extra>",
                row=1,
                col=place,
            )
    figure.update_yaxes(title="USD a month", row=1, col=1)
    return laid_out(figure, 360).update_layout(barmode="stack", legend={"y": 1.2}, margin={"t": 90})


def baselines(compared: pd.DataFrame) -> go.Figure:
    """Left: the chosen model's gain on each baseline with its interval; right: logloss against cost.

    The prior is so far from the others that it would hide their differences: beside them it stands at the upper end of
    the right axis with its number.
    """
    figure = make_subplots(
        rows=1,
        cols=2,
        horizontal_spacing=0.16,
        subplot_titles=("The chosen model against each", "Logloss against cost"),
    )
    near = compared.loc[compared["algorithm"] != "prior", "logloss"]
    top = near.max() + 0.3 * (near.max() - near.min()) if len(near) > 1 else compared["logloss"].max()
    compared = compared.assign(at=compared["logloss"].clip(upper=top))
    others = compared[~compared["is_verdict"]]
    groups = (
        (others[others["is_beaten"]], "surely beaten", ORANGE, "circle"),
        (others[~others["is_beaten"]], "not surely beaten", VERMILION, "x"),
        (compared[compared["is_verdict"]], "the chosen model", BLUE, "diamond"),
    )
    for part, name, colour, symbol in groups:
        if part.empty:
            continue
        shared = {"name": name, "legendgroup": name, "marker": {"color": colour, "size": 13, "symbol": symbol}}
        if colour != BLUE:
            figure.add_scatter(
                x=part["delta_relative"],
                y=part["label"],
                mode="markers",
                error_x=interval(part, "delta_relative", "delta_relative_lo", "delta_relative_hi"),
                hovertemplate="against %{y}: %{x:+.2%}<extra></extra>",
                row=1,
                col=1,
                **shared,
            )
        numbers = [f" {y:.4f}" if y > at else "" for y, at in zip(part["logloss"], part["at"], strict=True)]
        figure.add_scatter(
            x=part["usd_per_1m_scores"],
            y=part["at"],
            mode="markers+text",
            text=part["algorithm"] + numbers,
            textposition="bottom center" if colour == BLUE else "top center",
            cliponaxis=False,
            customdata=part[["logloss"]],
            hovertemplate="%{text}: logloss %{customdata[0]:.5f}, %{x:.4g} USD per million<extra></extra>",
            row=1,
            col=2,
            **(shared | {"showlegend": colour == BLUE}),
        )
    figure.add_vline(x=0, line_color=INK, line_width=1.5, row=1, col=1)
    title = "Logloss of the chosen model, relative (left of 0: better)"
    figure.update_xaxes(title=title, tickformat="+.1~%", row=1, col=1)
    figure.update_yaxes(categoryorder="array", categoryarray=others["label"].tolist()[::-1], row=1, col=1)
    figure.update_xaxes(
        title="USD per million scores (logarithmic)", **log_ticks(compared["usd_per_1m_scores"]), row=1, col=2
    )
    figure.update_yaxes(title="Test logloss (nats)", tickformat=".4f", row=1, col=2)
    return laid_out(figure, 430).update_layout(legend={"y": 1.12}, margin={"t": 90})


def lever_gain(levers: pd.DataFrame) -> go.Figure:
    """Left: each lever's change of logloss with its interval; right: its CPU time over the reference's."""
    figure = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        column_widths=[0.66, 0.34],
        subplot_titles=("Logloss against the reference", "CPU time"),
    )
    unsure = ~levers["is_helpful"] & ~levers["is_harmful"] & ~levers["is_reference"]
    groups = (
        (levers[levers["is_helpful"]], "surely helps", BLUE, "diamond"),
        (levers[unsure], "no sure difference", GREY, "circle"),
        (levers[levers["is_harmful"]], "surely harms", VERMILION, "x"),
        (levers[levers["is_reference"]], "reference", INK, "square"),
    )
    for part, name, colour, symbol in groups:
        if part.empty:
            continue
        shared = {"name": name, "legendgroup": name, "marker": {"color": colour, "size": 13, "symbol": symbol}}
        figure.add_scatter(
            x=part["delta_logloss_relative"],
            y=part["label"],
            mode="markers",
            error_x=interval(part, "delta_logloss_relative", "delta_lo", "delta_hi"),
            hovertemplate="%{y}: %{x:+.2%}<extra></extra>",
            row=1,
            col=1,
            **shared,
        )
        figure.add_bar(
            x=part["cpu_ratio"],
            y=part["label"],
            orientation="h",
            width=0.5,
            marker_color=colour,
            text=[f"{ratio:.2g} ×" for ratio in part["cpu_ratio"]],
            textposition="outside",
            cliponaxis=False,
            showlegend=False,
            hovertemplate="%{y}: %{x:.2f} times the CPU time<extra></extra>",
            row=1,
            col=2,
        )
    figure.add_vline(x=0, line_color=INK, line_width=1.5, row=1, col=1)
    figure.update_xaxes(title="Change of logloss (left of 0: better)", tickformat="+.1~%", row=1, col=1)
    longest = levers["cpu_ratio"].max()
    figure.update_xaxes(title="Times the reference's", range=[0, 1.2 * longest], row=1, col=2)
    figure.update_yaxes(categoryorder="array", categoryarray=levers["label"].tolist()[::-1])
    return laid_out(figure, 170 + 34 * len(levers)).update_layout(legend={"y": 1.1}, margin={"t": 80})
