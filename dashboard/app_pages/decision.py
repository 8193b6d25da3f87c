"""May the model be promoted, and why?"""

import streamlit as st

from dashboard import figures, queries

mart = st.session_state.mart
release = queries.release(mart)
callout = {"GO": st.success, "HOLD": st.warning, "NO-GO": st.error}.get(release["verdict"], st.info)
callout(queries.finding(mart, "decision"))

rules = queries.decision_rules(mart)
st.plotly_chart(figures.decision_rules(rules), theme=None)

st.subheader("Rules")
st.dataframe(
    rules,
    hide_index=True,
    column_order=["outcome", "rule", "severity", "value", "operator", "threshold", "why", "mart", "metric"],
    column_config={
        "value": st.column_config.NumberColumn(format="%.4g"),
        "threshold": st.column_config.NumberColumn(format="%.4g"),
        "why": st.column_config.TextColumn(width="large"),
    },
)
st.subheader("Decision log")
st.dataframe(
    queries.decisions(mart),
    hide_index=True,
    column_config={
        "cycle_date": st.column_config.DateColumn("cycle"),
        "reason": st.column_config.TextColumn(width="large"),
        "candidate_model_id": "candidate",
        "champion_model_id": "champion after it",
        "decided_at": st.column_config.DatetimeColumn("decided at (UTC)", format="YYYY-MM-DD HH:mm"),
        "decision_id": "decision",
    },
)
