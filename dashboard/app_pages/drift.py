"""Does the data still look like what the model was trained on?"""

import streamlit as st

from dashboard import figures, queries

mart = st.session_state.mart
st.info(queries.finding(mart, "drift"))

st.plotly_chart(figures.drift_by_field(queries.drift_by_field(mart)), theme=None)
st.caption(
    "Population stability index against the training periods, less what chance gives at these sizes. △ watch, ▲ alarm."
)
left, right = st.columns(2)
with left:
    st.subheader("Score")
    st.plotly_chart(figures.score_drift(queries.score_drift(mart)), theme=None)
with right:
    st.subheader("Conversion rate")
    st.plotly_chart(figures.label_maturity(queries.label_maturity(mart)), theme=None)
