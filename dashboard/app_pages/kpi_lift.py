"""What would the model's choice have brought?"""

import streamlit as st

from dashboard import figures, queries

mart = st.session_state.mart
st.info(queries.finding(mart, "kpi_lift"))

lift = queries.kpi_lift(mart)
st.plotly_chart(figures.kpi_lift(lift), theme=None)
for assumption in lift["assumption"].unique():
    st.caption(f":material/info: {assumption}")

st.subheader("Profit by period")
st.plotly_chart(figures.value_by_period(queries.value_by_period(mart)), theme=None)
number = st.column_config.NumberColumn
st.dataframe(
    lift,
    hide_index=True,
    column_order=["objective", "unit", "baseline", "total", "baseline_total", "delta", "delta_lo", "delta_hi", "lift"],
    column_config={
        "total": number("model", format="%,.1f"),
        "baseline_total": number("baseline total", format="%,.1f"),
        "delta": number("difference", format="%,.1f"),
        "delta_lo": number("from", format="%,.1f"),
        "delta_hi": number("to", format="%,.1f"),
        "lift": number("lift", format="percent"),
    },
)
