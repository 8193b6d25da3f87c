"""Where is p too high or too low?"""

import streamlit as st

from dashboard import figures, queries

mart = st.session_state.mart
st.info(queries.finding(mart, "calibration"))

models = queries.calibrated_models(mart).set_index("model_id")["name"]
model_id = st.selectbox("Model", models.index.tolist(), format_func=models.to_dict().get)
slices = queries.calibration_by_slice(mart, model_id)
st.plotly_chart(figures.calibration_by_slice(slices), theme=None)
st.caption("Most evidence of miscalibration first: distance from 1 in half widths of the 95 % interval over periods.")

st.subheader("Reliability on the test periods")
st.plotly_chart(figures.reliability(queries.reliability(mart, model_id)), theme=None)
