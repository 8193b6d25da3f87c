"""How late do labels come, what is still to come, and what should training make of it?"""

import streamlit as st

from dashboard import figures, queries

mart = st.session_state.mart
number = st.column_config.NumberColumn
st.info(queries.finding(mart, "label_delay"))

curves = queries.label_delay(mart)
if curves["completeness"].notna().any():
    st.plotly_chart(figures.label_delay(curves), theme=None)
    st.caption(
        "Kaplan–Meier with exposures that are still being watched as censored, 95 % bands. Exposures count as"
        " independent; those of one campaign are not, so read the bands as the least that is uncertain."
    )

st.subheader("From provisional to final")
st.plotly_chart(figures.label_maturity(queries.label_maturity(mart)), theme=None)
st.caption(
    "An exposure whose window is open and that has not converted is immature: it is no negative, and no model learns"
    " from it or is judged on it. What is expected takes it that conversions come as late as they did so far."
)

st.subheader("Training on labels that are not final")
ways = queries.delayed_feedback(mart)
st.markdown(queries.finding(mart, "delayed_feedback"))
if not ways.empty:
    st.plotly_chart(figures.delayed_feedback(ways), theme=None)
    st.dataframe(
        ways,
        hide_index=True,
        column_order=[
            "label",
            "logloss",
            "delta_relative",
            "delta_relative_lo",
            "delta_relative_hi",
            "calibration_ratio",
            "calibration_ratio_lo",
            "calibration_ratio_hi",
            "delta_calibration",
            "delta_calibration_lo",
            "delta_calibration_hi",
            "train_rows",
            "train_conversions",
            "n_dates",
            "n_seeds",
        ],
        column_config={
            "label": "labels",
            "logloss": number(format="%.6f"),
            "delta_relative": number("against final ones", format="percent"),
            "delta_relative_lo": number("from", format="percent"),
            "delta_relative_hi": number("to", format="percent"),
            "calibration_ratio": number("mean p over observed", format="%.3f"),
            "calibration_ratio_lo": number("from ", format="%.3f"),
            "calibration_ratio_hi": number("to ", format="%.3f"),
            "delta_calibration": number("its difference", format="%+.3f"),
            "delta_calibration_lo": number("from  ", format="%+.3f"),
            "delta_calibration_hi": number("to  ", format="%+.3f"),
            "train_rows": number("trained on", format="localized"),
            "train_conversions": number("with conversions", format="localized"),
            "n_dates": "dates",
            "n_seeds": "seeds",
        },
    )
    st.caption(
        "Same model, same epochs, no calibrator. Every date has one block of exposures; differences are paired by it."
    )
