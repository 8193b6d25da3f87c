"""May the model be promoted, and why?"""

import streamlit as st

from dashboard import figures, queries

mart = st.session_state.mart
release = queries.release(mart)
decision = queries.decision(mart)
callout = {"GO": st.success, "HOLD": st.warning, "NO-GO": st.error}.get(release["verdict"], st.info)
callout(queries.finding(mart, "decision"))
if decision is not None and decision["next_action"] == "rescope":
    st.error("Nothing was promoted and nothing gained for too many cycles: kill or rescope.")

st.subheader("Against what serves, and every k against the best")
st.markdown(queries.finding(mart, "incumbent"))
compared = queries.incumbent_comparison(mart)
for is_incumbent, rows in compared.groupby("is_incumbent", sort=False):
    st.plotly_chart(figures.incumbent_comparison(rows), theme=None, key=f"compared_{is_incumbent}")
st.markdown(queries.finding(mart, "accuracy_cost"))

rules = queries.decision_rules(mart)
st.subheader("Rules")
blocking = rules[rules["outcome"].isin(["fail", "missing"])]
if not blocking.empty:
    st.markdown("What blocks, and what would change it:")
    st.dataframe(
        blocking,
        hide_index=True,
        column_order=["rule", "severity", "value", "operator", "threshold", "note"],
        column_config={
            "value": st.column_config.NumberColumn(format="%.4g"),
            "threshold": st.column_config.NumberColumn(format="%.4g"),
            "note": st.column_config.TextColumn("what would change it", width="large"),
        },
    )
st.plotly_chart(figures.decision_rules(rules), theme=None)
st.dataframe(
    rules,
    hide_index=True,
    column_order=["outcome", "rule", "severity", "value", "operator", "threshold", "note", "why", "mart", "metric"],
    column_config={
        "value": st.column_config.NumberColumn(format="%.4g"),
        "threshold": st.column_config.NumberColumn(format="%.4g"),
        "why": st.column_config.TextColumn(width="large"),
    },
)

st.subheader("Approvals and waivers")
given = queries.approvals(mart)
if given.empty:
    st.markdown("Nobody has approved a held model or waived a rule (`fieldmart approve`, `fieldmart waive`).")
else:
    st.dataframe(
        given,
        hide_index=True,
        column_config={
            "cycle_date": st.column_config.DateColumn("cycle, or first cycle"),
            "until": st.column_config.DateColumn("last cycle"),
            "is_in_force": "counts tonight",
            "why": st.column_config.TextColumn(width="large"),
            "given_at": st.column_config.DatetimeColumn("given at (UTC)", format="YYYY-MM-DD HH:mm"),
        },
    )

st.subheader("Decision log")
st.dataframe(
    queries.decisions(mart),
    hide_index=True,
    column_config={
        "cycle_date": st.column_config.DateColumn("cycle"),
        "reason": st.column_config.TextColumn(width="large"),
        "periods_needed": "periods to wait",
        "days_needed": "days to wait",
        "candidate_model_id": "candidate",
        "champion_model_id": "champion after it",
        "decided_at": st.column_config.DatetimeColumn("decided at (UTC)", format="YYYY-MM-DD HH:mm"),
        "decided_by": "by",
        "decision_id": "decision",
    },
)

st.subheader("What was live, and who was champion")
went_back = queries.guard_went_back(mart)
if went_back:
    st.markdown(went_back)
st.dataframe(
    queries.alias_history(mart),
    hide_index=True,
    column_config={
        "valid_from": st.column_config.DatetimeColumn("from (UTC)", format="YYYY-MM-DD HH:mm"),
        "valid_to": st.column_config.DatetimeColumn("until", format="YYYY-MM-DD HH:mm"),
        "note": st.column_config.TextColumn(width="large"),
        "cycle_date": st.column_config.DateColumn("cycle"),
    },
)
