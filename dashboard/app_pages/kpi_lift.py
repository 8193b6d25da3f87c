"""What would the model's choice have brought?"""

import streamlit as st

from dashboard import figures, queries

mart = st.session_state.mart
st.info(queries.finding(mart, "kpi_lift"))
number = st.column_config.NumberColumn

lift = queries.kpi_lift(mart)
st.subheader("Profit by budget")
st.plotly_chart(figures.value_curve(queries.value_curve(mart)), theme=None)
st.caption(
    "Every policy contacts the pairs it ranks highest. A backtest: what those contacted bought anyway counts in full,"
    " for every policy alike."
)

st.subheader("Against the alternatives, at the budget")
st.plotly_chart(figures.kpi_lift(lift), theme=None)
st.dataframe(
    queries.kpi_totals(mart),
    hide_index=True,
    column_order=[
        *("objective", "unit", "baseline", "is_upper_bound", "total", "total_p5", "total_p95"),
        *("baseline_total", "delta", "delta_lo", "delta_hi", "delta_p5", "delta_p95", "lift"),
    ],
    column_config={
        "is_upper_bound": st.column_config.CheckboxColumn("upper bound"),
        "total": number("model", format="%,.1f"),
        "total_p5": number("model, 5th percentile", format="%,.1f"),
        "total_p95": number("95th", format="%,.1f"),
        "baseline_total": number("baseline total", format="%,.1f"),
        "delta": number("difference", format="%,.1f"),
        "delta_lo": number("95 % from", format="%,.1f"),
        "delta_hi": number("to", format="%,.1f"),
        "delta_p5": number("5th percentile", format="%,.1f"),
        "delta_p95": number("95th", format="%,.1f"),
        "lift": number("lift", format="percent"),
    },
)
for assumption in lift["assumption"].unique():
    st.caption(f":material/info: {assumption}")

st.subheader("Does it still pay with another margin or contact cost?")
baseline = st.selectbox("Compared with", queries.sensitivity_baselines(mart))
st.plotly_chart(figures.value_sensitivity(queries.value_sensitivity(mart, baseline)), theme=None)
st.caption(
    "Profit beyond the baseline's at the same budget; nobody = contacting nobody. ▲ surely a gain, ▼ surely a loss, ?"
    " the 95 % interval holds 0; in brackets what is assumed. Equally many contacts cost the same."
)

st.subheader("What the ranking tells apart")
st.plotly_chart(figures.value_by_decile(queries.value_by_decile(mart)), theme=None)

st.subheader("Does the best k depend on what is counted?")
st.dataframe(
    queries.value_by_k(mart),
    hide_index=True,
    column_order=[
        *("objective", "k", "is_verdict", "rank_by_objective", "rank_by_logloss", "total", "unit"),
        *("delta", "delta_lo", "delta_hi", "is_distinct", "rank_correlation_with_profit"),
        "rank_correlation_with_logloss",
    ],
    column_config={
        "is_verdict": st.column_config.CheckboxColumn("chosen"),
        "rank_by_objective": number("rank"),
        "rank_by_logloss": number("rank by logloss"),
        "total": number("total", format="%,.1f"),
        "delta": number("beyond the chosen k", format="%,.1f"),
        "delta_lo": number("95 % from", format="%,.1f"),
        "delta_hi": number("to", format="%,.1f"),
        "is_distinct": st.column_config.CheckboxColumn("surely different"),
        "rank_correlation_with_profit": number("rank correlation with profit", format="%.2f"),
        "rank_correlation_with_logloss": number("with logloss", format="%.2f"),
    },
)

st.subheader("Simulated auctions")
auctions = queries.auction_utility(mart)
if auctions.empty:
    st.markdown("The contract names no cost column: no auctions are simulated.")
else:
    st.dataframe(
        auctions,
        hide_index=True,
        column_order=["policy", "utility_name", "won", "utility", "delta", "delta_lo", "delta_hi", "lift"],
        column_config={
            "utility_name": "utility",
            "utility": number("USD", format="%,.2f"),
            "delta": number("beyond the prior", format="%,.2f"),
            "delta_lo": number("95 % from", format="%,.2f"),
            "delta_hi": number("to", format="%,.2f"),
            "lift": number("lift", format="percent"),
        },
    )
    for assumption in auctions["assumption"].unique():
        st.caption(f":material/info: {assumption}")

st.subheader("Profit by period")
st.plotly_chart(figures.value_by_period(queries.value_by_period(mart)), theme=None)
