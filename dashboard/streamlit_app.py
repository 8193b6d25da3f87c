"""`streamlit run dashboard/streamlit_app.py -- --warehouse DIR`: the pages, and what stands on top of each of them."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

from dashboard import queries

PAGES = Path(__file__).parent / "app_pages"

st.set_page_config(page_title="fieldmart", page_icon=":material/query_stats:", layout="wide")
page = st.navigation(
    [
        st.Page(PAGES / "decision.py", title="Decision", icon=":material/gavel:", default=True),
        st.Page(PAGES / "scores.py", title="Scores", icon=":material/format_list_numbered:"),
        st.Page(PAGES / "accuracy_cost.py", title="Accuracy and cost by k", icon=":material/balance:"),
        st.Page(PAGES / "training.py", title="Training", icon=":material/model_training:"),
        st.Page(PAGES / "levers.py", title="Cheaper levers", icon=":material/tune:"),
        st.Page(PAGES / "calibration.py", title="Calibration by slice", icon=":material/straighten:"),
        st.Page(PAGES / "drift.py", title="Drift", icon=":material/moving:"),
        st.Page(PAGES / "audits.py", title="Audits", icon=":material/fact_check:"),
        st.Page(PAGES / "label_delay.py", title="Label delay", icon=":material/hourglass_top:"),
        st.Page(PAGES / "kpi_lift.py", title="KPI lift", icon=":material/payments:"),
        st.Page(PAGES / "operations.py", title="Operations", icon=":material/monitor_heart:"),
    ]
)
st.title(page.title)
try:
    st.session_state.mart = queries.current_mart(queries.warehouse_root(sys.argv[1:]))
    release = queries.release(st.session_state.mart)
    st.caption(release["summary"])
    if release["data_note"]:
        st.caption(f":material/info: {release['data_note']}")
    page.run()
except queries.NoRelease as nothing:
    st.info(str(nothing), icon=":material/info:")
