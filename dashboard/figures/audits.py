"""Audits of the chosen model: leakage, age, domain shift, groups of people, and what its fields contribute."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from dashboard.look import BLUE, GREY, INK, ORANGE, VERMILION, interval, laid_out

OUTCOMES = ((True, "passed", BLUE, "circle"), (False, "failed", VERMILION, "x"))
SHOWN = 25  # fields of the heatmap at most


def leakage(checks: pd.DataFrame) -> go.Figure:
    """AUC of every field alone on rows nobody learned from, with interval, and the limit."""
    fields = checks[checks["audit"] == "field_alone"].sort_values("value", na_position="first")
    figure = go.Figure()
    for passed, name, colour, symbol in OUTCOMES:
        part = fields[fields["passed"] == passed]
        if part.empty:
            continue
        figure.add_scatter(
            x=part["value"],
            y=part["subject"],
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 10},
            error_x=interval(part, "value", "value_lo", "value_hi"),
            hovertemplate="%{y}: AUC %{x:.4f}<extra></extra>",
        )
    if not fields.empty:
        figure.add_vline(x=fields["allowed"].iloc[0], line_color=INK, line_dash="dash", annotation_text="limit")
    figure.update_xaxes(title="AUC of ranking by this field alone")
    figure.update_yaxes(categoryorder="array", categoryarray=fields["subject"].tolist(), dtick=1)
    return laid_out(figure, 140 + 22 * len(fields))


def model_age(versions: pd.DataFrame) -> go.Figure:
    """Normalized entropy of both versions by test period; the space between them is what age costs."""
    figure = go.Figure()
    looks = (("newer", BLUE, "circle", "solid"), ("older", ORANGE, "diamond", "dash"))
    for version, colour, symbol, dash in looks:
        part = versions[versions["version"] == version]
        figure.add_scatter(
            x=part["period"],
            y=part["normalized_entropy"],
            mode="lines+markers",
            name=f"{version} training",
            line={"color": colour, "dash": dash},
            marker={"symbol": symbol, "size": 9},
            customdata=part[["age_days", "delta_relative", "logloss"]],
            hovertemplate="%{x|%Y-%m-%d}: %{y:.4f}, %{customdata[0]} days after its training<br>"
            "%{customdata[1]:+.2%} against the newer<extra></extra>",
        )
    figure.update_xaxes(title="Test period")
    figure.update_yaxes(title="Normalized entropy (lower is better)")
    return laid_out(figure, 360)


def domain_shift(subjects: pd.DataFrame) -> go.Figure:
    """By field: AUC of telling test rows from training rows, and that of the reference without time between."""
    rows = subjects.iloc[::-1]
    figure = go.Figure()
    for first, second, label in zip(rows["reference_auc"], rows["auc"], rows["subject"], strict=True):
        figure.add_scatter(
            x=[first, second],
            y=[label, label],
            mode="lines",
            line={"color": GREY, "width": 2},
            showlegend=False,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=rows["reference_auc"],
        y=rows["subject"],
        mode="markers",
        name="reference: no time between",
        marker={"color": GREY, "symbol": "line-ns-open", "size": 12},
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )
    for material, name, colour, symbol in (
        (False, "test against training", BLUE, "circle"),
        (True, "the same, material", VERMILION, "x"),
    ):
        part = rows[rows["is_material"] == material]
        if part.empty:
            continue
        figure.add_scatter(
            x=part["auc"],
            y=part["subject"],
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 10},
            error_x=interval(part, "auc", "auc_lo", "auc_hi"),
            customdata=part["excess"],
            hovertemplate="%{y}: %{x:.3f}, %{customdata:+.3f} above the reference<extra></extra>",
        )
    figure.update_xaxes(title="AUC of telling the rows apart (0.5: not at all)")
    figure.update_yaxes(categoryorder="array", categoryarray=rows["subject"].tolist(), dtick=1)
    return laid_out(figure, 160 + 22 * len(rows))


def fairness(groups: pd.DataFrame, low: float = 0.8, high: float = 1.25) -> go.Figure:
    """Calibration ratio of every group with its interval; hollow where there are too few rows to judge."""
    rows = groups.iloc[::-1].assign(label=lambda frame: frame["attribute"] + ": " + frame["group_value"])
    figure = go.Figure()
    figure.add_vrect(x0=low, x1=high, fillcolor=GREY, opacity=0.15, line_width=0)
    off, few = rows["is_off_band"], rows["is_below_min_n"]
    for part, name, colour, symbol in (
        (rows[off], "surely off", VERMILION, "x"),
        (rows[~off & ~few], "judged", BLUE, "circle"),
        (rows[few], "too few rows to judge", GREY, "circle-open"),
    ):
        if part.empty:
            continue
        figure.add_scatter(
            x=part["calibration_ratio"],
            y=part["label"],
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 10},
            error_x=interval(part, "calibration_ratio", "calibration_ratio_lo", "calibration_ratio_hi"),
            customdata=part[["entities", "n", "conversions"]],
            hovertemplate="%{y}: %{x:.3f}<br>%{customdata[0]:,} entities, %{customdata[1]:,} rows, "
            "%{customdata[2]:,} conversions<extra></extra>",
        )
    figure.add_vline(x=1, line_color=INK, line_width=1.5)
    figure.update_xaxes(title="Mean p ÷ observed rate")
    figure.update_yaxes(categoryorder="array", categoryarray=rows["label"].tolist(), dtick=1)
    return laid_out(figure, 160 + 22 * len(rows))


def fairness_proxy(guesses: pd.DataFrame) -> go.Figure:
    """How well the other fields tell each group from the rest."""
    rows = guesses.iloc[::-1].assign(label=lambda frame: frame["attribute"] + ": " + frame["group_value"])
    figure = go.Figure()
    figure.add_scatter(
        x=rows["auc"],
        y=rows["label"],
        mode="markers",
        marker={"color": BLUE, "size": 10},
        error_x=interval(rows, "auc", "auc_lo", "auc_hi"),
        customdata=rows[["entities", "recall"]],
        hovertemplate="%{y}: AUC %{x:.3f}<br>%{customdata[0]:,} entities, %{customdata[1]:.0%} of them guessed right"
        "<extra></extra>",
        showlegend=False,
    )
    figure.add_vline(x=0.5, line_color=INK, line_width=1.5)
    figure.update_xaxes(title="AUC of guessing the group from the other fields (0.5: chance)")
    figure.update_yaxes(categoryorder="array", categoryarray=rows["label"].tolist(), dtick=1)
    return laid_out(figure, 140 + 22 * len(rows))


def field_pairs(terms: pd.DataFrame) -> go.Figure:
    """Shares of the variance of the logits: fields alone on the diagonal, pairs beside it, both ways."""
    alone = terms[~terms["is_pair"]]
    shown = alone["field_a"].head(SHOWN).tolist()
    matrix = pd.DataFrame(float("nan"), index=shown, columns=shown)
    for term in terms[terms["field_a"].isin(shown)].itertuples():
        second = term.field_b if term.is_pair else term.field_a
        if second in matrix.columns:
            matrix.loc[term.field_a, second] = matrix.loc[second, term.field_a] = term.share
    figure = go.Figure(
        go.Heatmap(
            z=matrix.to_numpy(),
            x=shown,
            y=shown,
            colorscale=[[0, ORANGE], [0.5, "#FFFFFF"], [1, BLUE]],
            zmid=0,
            colorbar={"title": "share", "tickformat": ".0%"},
            hovertemplate="%{y} × %{x}: %{z:.2%}<extra></extra>",
        )
    )
    figure.update_xaxes(tickangle=-45, dtick=1)
    figure.update_yaxes(autorange="reversed", dtick=1)
    return laid_out(figure, 200 + 24 * len(shown))
