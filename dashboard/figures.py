"""Every chart of the dashboard: rows of a query in, a Plotly figure out. Error bars are 95 % intervals."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.look import BLUE, GREEN, GREY, INK, ORANGE, VERMILION, interval, laid_out

OUTCOMES = {"pass": (GREEN, "holds"), "fail": (VERMILION, "does not hold"), "missing": (GREY, "evidence missing")}
SIGNS = {"<=": "≤", ">=": "≥", "==": "="}
POLICIES = {"model": BLUE, "prior": ORANGE, "random": GREY}
SPLITS = {"train": GREY, "valid": ORANGE, "calib": GREEN, "test": BLUE, "unused": INK}


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


def accuracy_cost_by_k(candidates: pd.DataFrame) -> go.Figure:
    """Left: logloss against the best k with paired intervals and the margin; right: accuracy against cost."""
    figure = make_subplots(
        rows=1,
        cols=2,
        horizontal_spacing=0.12,
        subplot_titles=("Paired difference to the best k", "Accuracy against cost"),
    )
    compared = candidates[~candidates["is_baseline"]]
    dominated = compared["is_dominated"] & ~compared["is_verdict"]
    groups = (
        (compared[compared["is_verdict"]], "chosen k", BLUE, "diamond"),
        (compared[~compared["is_verdict"] & ~dominated], "other k", ORANGE, "circle"),
        (compared[dominated], "dominated k", GREY, "x"),
    )
    for part, name, colour, symbol in groups:
        if part.empty:
            continue
        marker = {"color": colour, "size": 13, "symbol": symbol}
        shared = {"mode": "markers+text", "name": name, "legendgroup": name, "marker": marker}
        labels = [f"k = {k}" for k in part["k"]]
        paired = interval(part, "delta_logloss", "delta_lo_simultaneous", "delta_hi_simultaneous")
        figure.add_scatter(
            x=labels,
            y=part["delta_logloss"],
            error_y=paired,
            row=1,
            col=1,
            **(shared | {"mode": "markers"}),
            hovertemplate="%{x}: %{y:+.6f} nats<extra></extra>",
        )
        figure.add_scatter(
            x=part["usd_per_1m_scores"],
            y=part["normalized_entropy"],
            text=labels,
            textposition="top center",
            showlegend=False,
            row=1,
            col=2,
            **shared,
            hovertemplate="%{text}: normalized entropy %{y:.4f}, %{x:.4g} USD per million<extra></extra>",
        )
    order = [f"k = {k}" for k in sorted(compared["k"].unique())]
    margin = compared["margin"].max()
    if pd.notna(margin):  # a trace and not a shape, so that the axis makes room for it
        line = {"color": VERMILION, "dash": "dash"}
        figure.add_scatter(
            x=order,
            y=[margin] * len(order),
            mode="lines",
            name="margin: an interval below it is not inferior",
            line=line,
            row=1,
            col=1,
        )
    figure.add_hline(y=0, line_color=INK, line_width=1, row=1, col=1)
    figure.update_xaxes(title="Latent factors k", categoryorder="array", categoryarray=order, row=1, col=1)
    figure.update_yaxes(title="Test logloss minus the best (nats)", tickformat="+.5~f", row=1, col=1)
    figure.update_xaxes(title="USD per million scores", rangemode="tozero", tickformat="~g", row=1, col=2)
    figure.update_yaxes(title="Normalized entropy (lower is better)", row=1, col=2)
    return laid_out(figure, 470).update_layout(legend={"y": 1.12}, margin={"t": 90})


def training_curve(epochs: pd.DataFrame) -> go.Figure:
    """Valid logloss by epoch, one line per model; the epoch kept is marked."""
    figure = go.Figure()
    colours = [BLUE, ORANGE, GREEN, VERMILION, INK, GREY]
    for i, (_, part) in enumerate(epochs.groupby("model_id", sort=False)):
        colour, first = colours[i % len(colours)], part.iloc[0]
        name = f"k = {first['k']}, seed {first['seed']}"
        figure.add_scatter(
            x=part["epoch"],
            y=part["valid_logloss"],
            mode="lines+markers",
            name=name,
            line_color=colour,
            marker={"size": [13 if best else 6 for best in part["is_best_epoch"]]},
            hovertemplate=f"{name}, epoch %{{x}}: %{{y:.5f}}<extra></extra>",
        )
    figure.update_xaxes(title="Epoch (the large marker was kept)", dtick=1)
    figure.update_yaxes(title="Valid logloss (nats)", tickformat=".4f")
    return laid_out(figure, 360)


def calibration_by_slice(slices: pd.DataFrame) -> go.Figure:
    """Calibration ratio of each slice with its interval, worst on top; slices too small to judge in grey.

    The axis reaches as far as nine tenths of the judged slices need, at most to twice the observed rate: the few beyond
    stand at its end with their number.
    """
    figure = go.Figure()
    rows = slices.dropna(subset=["calibration_ratio"])
    rows = rows.assign(name=rows["slice_type"] + " = " + rows["slice_value"])
    judged = rows[~rows["is_below_min_n"]]
    far = (judged["calibration_ratio"] - 1).abs().quantile(0.9) if len(judged) else 1.0
    reach = min(max(1.5 * far, 0.25), 1.0)
    rows["at"] = rows["calibration_ratio"].clip(1 - 0.97 * reach, 1 + 0.97 * reach)
    rows["text"] = [f"{x:.2f}" if x != at else "" for x, at in zip(rows["calibration_ratio"], rows["at"], strict=True)]
    groups = (
        (rows["is_miscalibrated"], "off by more than its interval", VERMILION, "diamond"),
        (~rows["is_miscalibrated"] & ~rows["is_below_min_n"], "within its interval", BLUE, "circle"),
        (rows["is_below_min_n"], "too few rows to judge", GREY, "circle-open"),
    )
    for chosen, words, colour, symbol in groups:
        part = rows[chosen]
        if part.empty:
            continue
        figure.add_scatter(
            x=part["at"],
            y=part["name"],
            mode="markers+text",
            name=words,
            text=part["text"],
            textposition=["top left" if at > 1 else "top right" for at in part["at"]],
            error_x=interval(part, "at", "calibration_ratio_lo", "calibration_ratio_hi"),
            marker={"color": colour, "size": 11, "symbol": symbol},
            customdata=part[["calibration_ratio", "calibration_ratio_lo", "calibration_ratio_hi", "n", "conversions"]],
            hovertemplate="<b>%{y}</b><br>%{customdata[0]:.3f} (%{customdata[1]:.3f} to %{customdata[2]:.3f})"
            "<br>%{customdata[3]:,} rows, %{customdata[4]:,} conversions<extra></extra>",
        )
    figure.add_vline(x=1, line_color=INK, line_width=1.5)
    title = "Calibration ratio: mean p ÷ observed rate (1 = calibrated, right: p too high)"
    figure.update_xaxes(title=title, range=[1 - reach, 1 + reach])
    order = rows["name"].tolist()[::-1]
    figure.update_yaxes(categoryorder="array", categoryarray=order, range=[-0.7, len(order) - 0.3])
    return laid_out(figure, 150 + 26 * len(order))


def reliability(bins: pd.DataFrame) -> go.Figure:
    """Observed rate against mean p, both logarithmic, with the diagonal of perfect calibration."""
    shown = bins[(bins["mean_p"] > 0) & (bins["observed_rate"] > 0)]
    ends = [shown["mean_p"].min() / 1.5, shown["mean_p"].max() * 1.5]
    figure = go.Figure()
    figure.add_scatter(x=ends, y=ends, mode="lines", name="perfect", line={"color": INK, "dash": "dash", "width": 1.5})
    figure.add_scatter(
        x=shown["mean_p"],
        y=shown["observed_rate"],
        mode="markers+lines",
        name="bins of p",
        error_y=interval(shown, "observed_rate", "observed_rate_lo", "observed_rate_hi"),
        marker={"color": BLUE, "size": 10},
        line={"color": BLUE, "width": 1},
        customdata=shown[["bin", "n"]],
        hovertemplate="bin %{customdata[0]}, %{customdata[1]:,} rows<br>p %{x:.3%}, observed %{y:.3%}<extra></extra>",
    )
    figure.update_xaxes(title="Mean p of the bin", type="log", tickformat=".2~p", dtick="D2")
    figure.update_yaxes(title="Observed conversion rate", type="log", tickformat=".2~p", dtick="D2")
    return laid_out(figure, 420)


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


def label_maturity(periods: pd.DataFrame) -> go.Figure:
    """Observed rate by period, coloured by split; open markers are immature."""
    figure = go.Figure()
    for split, colour in SPLITS.items():
        part = periods[periods["split"] == split]
        if part.empty:
            continue
        figure.add_scatter(
            x=part["period"],
            y=part["observed_rate"],
            mode="markers",
            name=split,
            error_y=interval(part, "observed_rate", "observed_rate_lo", "observed_rate_hi"),
            marker={
                "color": colour,
                "size": 8,
                "symbol": ["circle" if m else "circle-open" for m in part["is_mature"]],
            },
            customdata=part[["exposures", "conversions"]],
            hovertemplate="%{x|%Y-%m-%d}: %{y:.2%}<br>%{customdata[1]:,} of %{customdata[0]:,}<extra></extra>",
        )
    figure.update_xaxes(title="Period (open markers: labels still coming in)", tickformat="%b %d")
    figure.update_yaxes(title="Observed conversion rate", tickformat=".1%", rangemode="tozero")
    return laid_out(figure, 380)


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
