"""What the model's choice would have brought."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.look import BLUE, GREEN, GREY, INK, ORANGE, VERMILION, interval, laid_out

POLICIES = {"model": BLUE, "champion": GREEN, "prior": ORANGE, "random": GREY, "perfect": INK}
NAMES = {"perfect": "perfect foresight (upper bound)", "random": "random (expected)"}
SIGNS = {"gain": "▲", "loss": "▼", "open": "?"}


def kpi_lift(lift: pd.DataFrame) -> go.Figure:
    """The model's gain over each baseline, one panel per objective in its own unit: the bar with its 95 % interval over
    periods, and beside it the 5th to 95th percentile with households redrawn."""
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
            x=part["baseline"],
            y=part["delta"],
            error_y=interval(part, "delta", "delta_lo", "delta_hi") | {"color": INK},
            text=labels,
            textposition="inside",
            insidetextanchor="start",
            textangle=0,
            marker_color=colours,
            width=0.5,
            name="with 95 % interval over periods",
            showlegend=False,
            hovertemplate="against %{x}: %{y:+,.1f} (%{text})<extra></extra>",
            row=1,
            col=column,
        )
        figure.add_scatter(
            x=part["baseline"],
            y=part["delta_p50"],
            error_y=interval(part, "delta_p50", "delta_p5", "delta_p95") | {"color": VERMILION, "width": 9},
            mode="markers",
            marker={"color": VERMILION, "symbol": "diamond-open", "size": 10},
            name="median, 5th to 95th percentile",
            showlegend=column == 1,
            customdata=part[["delta_p5", "delta_p95"]],
            hovertemplate="against %{x}: median %{y:+,.1f}, %{customdata[0]:+,.1f} to"
            " %{customdata[1]:+,.1f}<extra></extra>",
            row=1,
            col=column,
        )
        figure.add_hline(y=0, line_color=INK, line_width=1, row=1, col=column)
    figure.update_yaxes(title="Model minus baseline, all test periods", row=1, col=1)
    figure.update_xaxes(title="against")
    figure.update_yaxes(tickformat=",~s")
    return laid_out(figure, 460).update_layout(legend_y=-0.3)  # above stand the titles of the panels


def value_curve(curve: pd.DataFrame) -> go.Figure:
    """Profit of every policy by contacts per period, the model's with its interval, and the target's budget."""
    figure = go.Figure()
    for policy, part in curve.groupby("policy", sort=False):
        is_bound = policy == "perfect"
        if policy == "model":
            band = pd.concat([part["profit_hi"], part["profit_lo"][::-1]])
            figure.add_scatter(
                x=pd.concat([part["contacts_per_period"], part["contacts_per_period"][::-1]]),
                y=band,
                mode="lines",
                fill="toself",
                fillcolor="rgba(0, 114, 178, 0.15)",
                line={"width": 0},
                name="its 95 % interval over periods",
                hoverinfo="skip",
            )
        figure.add_scatter(
            x=part["contacts_per_period"],
            y=part["profit"],
            mode="lines",
            name=NAMES.get(str(policy), str(policy)),
            line={"color": POLICIES[str(policy)], "width": 2, "dash": "dot" if is_bound else "solid"},
            visible="legendonly" if is_bound else True,
            customdata=part[["captured_share", "budget"]],
            hovertemplate="budget %{customdata[1]:,}, %{x:,.0f} contacts: %{y:,.0f} USD,"
            " %{customdata[0]:.1%} of the conversions<extra></extra>",
        )
    target = curve[curve["is_target"] & (curve["policy"] == "model")]
    for at in target["contacts_per_period"]:
        figure.add_vline(
            x=at,
            line={"color": INK, "dash": "dash", "width": 2},
            annotation_text="budget",
            annotation_position="bottom right",
        )
    figure.add_hline(y=0, line_color=INK, line_width=1)
    figure.update_xaxes(title="Contacts per period", tickformat=",~s")
    figure.update_yaxes(title="Profit over all test periods (USD)", tickformat=",~s")
    return laid_out(figure, 430)


def value_sensitivity(cells: pd.DataFrame) -> go.Figure:
    """Profit beyond one baseline for each margin and contact cost; the last column says at which cost it is none."""
    table = cells.pivot_table(index="margin_rate", columns="contact_cost", values="delta", dropna=False)
    marks = cells.assign(mark=[_cell(row) for row in cells.to_dict("records")])
    texts = marks.pivot_table(index="margin_rate", columns="contact_cost", values="mark", aggfunc="first")
    costs, margins = [f"{cost:g}" for cost in table.columns], [f"{margin:.0%}" for margin in table.index]
    largest = float(table.abs().max().max()) or 1.0
    figure = go.Figure(
        go.Heatmap(
            x=costs,
            y=margins,
            z=table.to_numpy(),
            text=texts.to_numpy(),
            texttemplate="%{text}",
            textfont={"size": 13},
            colorscale=[(0, ORANGE), (0.5, "#FFFFFF"), (1, BLUE)],
            zmin=-largest,
            zmax=largest,
            xgap=2,
            ygap=2,
            colorbar={"title": "USD"},
            hovertemplate="margin %{y}, contact %{x} USD: %{z:+,.0f} USD<extra></extra>",
        )
    )
    even = cells.drop_duplicates("margin_rate").set_index("margin_rate")["break_even_contact_cost"].reindex(table.index)
    figure.add_scatter(
        x=["no profit at"] * len(even),
        y=margins,
        mode="text",
        text=["any cost" if pd.isna(cost) else f"<b>{cost:.2g}</b>" for cost in even],
        showlegend=False,
        hoverinfo="skip",
    )
    figure.update_xaxes(title="Cost of a contact (USD)", type="category", showgrid=False)
    figure.update_yaxes(title="Margin, share of the sales value", type="category", showgrid=False)
    return laid_out(figure, 120 + 44 * len(margins))


def _cell(row: dict[str, Any]) -> str:
    """A cell's amount with a sign for gain, loss or neither, in brackets where it is what conf/value.yml assumes."""
    text = f"{row['delta']:+,.0f} {SIGNS[row['outcome']]}"
    return f"<b>[{text}]</b>" if row["is_assumed"] else text


def value_by_decile(deciles: pd.DataFrame) -> go.Figure:
    """Observed rate over that of all pairs by tenth of each policy's ranking."""
    figure = go.Figure()
    for policy, part in deciles.groupby("policy", sort=False):
        figure.add_bar(
            x=part["decile"],
            y=part["uplift"],
            name=str(policy),
            marker_color=POLICIES[str(policy)],
            customdata=part[["observed_rate", "mean_p", "conversions", "captured_share"]],
            hovertemplate="decile %{x}: %{y:.2f} times the mean rate<br>observed %{customdata[0]:.3%}, expected"
            " %{customdata[1]:.3%}, %{customdata[2]:,} conversions, %{customdata[3]:.1%} so far<extra></extra>",
        )
    figure.add_hline(y=1, line_color=INK, line_width=1)
    figure.update_xaxes(title="Decile of the ranking (1 = highest p)", dtick=1)
    figure.update_yaxes(title="Observed rate ÷ rate of all pairs")
    return laid_out(figure, 380)


def value_by_period(value: pd.DataFrame) -> go.Figure:
    """Profit per 1,000 contacts of each policy by period; the upper bound is left out, it would flatten the rest."""
    figure = go.Figure()
    for policy, part in value[value["policy"] != "perfect"].groupby("policy"):
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
