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
    is_open = (
        rows["calibration_ratio_hi"].isna() & rows["calibration_ratio_lo"].notna()
    )  # nothing bounds it: off the axis
    rows["drawn_hi"] = rows["calibration_ratio_hi"].mask(is_open, 1 + 2 * reach)
    rows["to"] = [
        "without an upper end" if unbounded else f"to {hi:.3f}"
        for hi, unbounded in zip(rows["calibration_ratio_hi"], is_open, strict=True)
    ]
    rows["text"] = [f"{x:.2f}" if x != at else "" for x, at in zip(rows["calibration_ratio"], rows["at"], strict=True)]
    groups = (
        (rows["is_miscalibrated"], "off by more than chance", VERMILION, "diamond"),
        (~rows["is_miscalibrated"] & ~rows["is_below_min_n"], "no more than chance", BLUE, "circle"),
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
            error_x=interval(part, "at", "calibration_ratio_lo", "drawn_hi"),
            marker={"color": colour, "size": 11, "symbol": symbol},
            customdata=part[["calibration_ratio", "calibration_ratio_lo", "to", "n", "conversions"]],
            hovertemplate="<b>%{y}</b><br>%{customdata[0]:.3f} (%{customdata[1]:.3f} %{customdata[2]})"
            "<br>%{customdata[3]:,} rows, %{customdata[4]:,} conversions<extra></extra>",
        )
    figure.add_vline(x=1, line_color=INK, line_width=1.5)
    title = "Calibration ratio: mean p ÷ observed rate (1 = calibrated, right: p too high)"
    figure.update_xaxes(title=title, range=[1 - reach, 1 + reach])
    order = rows["name"].tolist()[::-1]
    figure.update_yaxes(categoryorder="array", categoryarray=order, range=[-0.7, len(order) - 0.3])
    return laid_out(figure, 150 + 26 * len(order))


def reliability_curve(points: pd.DataFrame) -> go.Figure:
    """Observed rate against p without bins, with the band of a calibrated model; both logarithmic.

    A rate or an end of the band that is 0 has no place on the axis and is left out.
    """
    shown = points[(points["p"] > 0) & (points["observed_rate"] > 0)]
    ends = [shown["p"].min() / 1.5, min(shown["p"].max() * 1.5, 1.0)]
    band = shown[shown["band_lo"] > 0]
    figure = go.Figure()
    figure.add_scatter(x=ends, y=ends, mode="lines", name="perfect", line={"color": INK, "dash": "dash", "width": 1.5})
    figure.add_scatter(
        x=[*band["p"], *band["p"][::-1]],
        y=[*band["band_hi"], *band["band_lo"][::-1]],
        name="where a calibrated model lies, 95 of 100 times",
        fill="toself",
        fillcolor="rgba(154, 163, 173, 0.35)",
        line={"width": 0},
        hoverinfo="skip",
    )
    for is_outside, words, colour, symbol in (
        (False, "within the band", BLUE, "circle"),
        (True, "outside of the band", VERMILION, "diamond"),
    ):
        part = shown[shown["is_outside"] == is_outside]
        figure.add_scatter(
            x=part["p"],
            y=part["observed_rate"],
            mode="markers",
            name=words,
            marker={"color": colour, "size": 7, "symbol": symbol},
            customdata=part[["n", "band_lo", "band_hi"]],
            hovertemplate="p %{x:.3%}, observed %{y:.3%}<br>band %{customdata[1]:.3%} to %{customdata[2]:.3%}"
            "<br>%{customdata[0]:,} rows since the point before<extra></extra>",
        )
    figure.update_xaxes(title="Calibrated p", type="log", tickformat=".2~p", dtick="D2")
    figure.update_yaxes(title="Observed conversion rate (isotonic)", type="log", tickformat=".2~p", dtick="D2")
    return laid_out(figure, 460)


def slice_shrinkage(slices: pd.DataFrame) -> go.Figure:
    """Raw and shrunk ratio of observed to expected conversions of each value, most conversions moved on top.

    A raw ratio beyond the axis, which reaches to four times what the shrunk ones need, stands at its end.
    """
    rows = slices.assign(name=slices["level"] + " = " + slices["value"])
    reach = max(4 * (rows["shrunk_ratio"] - 1).abs().max(), 0.25)
    figure = go.Figure()
    for column, words, colour, symbol in (
        ("raw_ratio", "as observed", GREY, "circle-open"),
        ("shrunk_ratio", "shrunk to the level above", BLUE, "diamond"),
    ):
        figure.add_scatter(
            x=rows[column].clip(1 - reach, 1 + reach),
            y=rows["name"],
            mode="markers",
            name=words,
            marker={"color": colour, "size": 10, "symbol": symbol},
            customdata=rows[[column, "n", "conversions", "sum_p", "weight", "parent_ratio"]],
            hovertemplate="<b>%{y}</b><br>%{customdata[0]:.3f}, weight %{customdata[4]:.2f}, above %{customdata[5]:.3f}"
            "<br>%{customdata[1]:,} rows, %{customdata[2]:,} conversions, %{customdata[3]:,.1f} expected"
            "<extra></extra>",
        )
    figure.add_vline(x=1, line_color=INK, line_width=1.5)
    figure.update_xaxes(title="Observed ÷ expected conversions (right: p too low)", range=[1 - reach, 1 + reach])
    order = rows["name"].tolist()[::-1]
    figure.update_yaxes(categoryorder="array", categoryarray=order, range=[-0.7, len(order) - 0.3])
    return laid_out(figure, 150 + 24 * len(order))
