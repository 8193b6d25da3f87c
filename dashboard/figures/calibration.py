"""Predicted against observed rates."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from dashboard.look import BLUE, GREY, INK, VERMILION, interval, laid_out


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
