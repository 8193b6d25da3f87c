"""What helps for less than more latent factors cost?"""

import streamlit as st

from dashboard import figures, queries

mart = st.session_state.mart
levers = queries.lever_gain(mart)
st.info(queries.finding(mart, "levers"))

if not levers.empty:
    st.plotly_chart(figures.lever_gain(levers), theme=None)
    st.caption(
        "Measured with the same budget on rolling-origin folds before the test periods, paired by period. Intervals are"
        " not adjusted for their number: of twenty settings that change nothing, one seems to help or to harm."
    )
    number = st.column_config.NumberColumn
    st.dataframe(
        levers,
        hide_index=True,
        column_order=[
            "lever",
            "setting",
            "k",
            "is_reference",
            "is_helpful",
            "is_cheapest_that_helps",
            "delta_logloss_relative",
            "delta_lo",
            "delta_hi",
            "cpu_ratio",
            "cpu_s",
            "artifact_mib",
            "n_folds",
            "n_periods",
            "n_seeds",
        ],
        column_config={
            "is_reference": "reference",
            "is_helpful": "helps",
            "is_cheapest_that_helps": "cheapest that helps",
            "delta_logloss_relative": number("logloss", format="percent"),
            "delta_lo": number("from", format="percent"),
            "delta_hi": number("to", format="percent"),
            "cpu_ratio": number("CPU, times the reference", format="%.2f"),
            "cpu_s": number("CPU s", format="%.1f"),
            "artifact_mib": number("model MiB", format="%.2f"),
            "n_folds": "folds",
            "n_periods": "periods",
            "n_seeds": "seeds",
        },
    )
