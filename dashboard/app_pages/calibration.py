"""Where is p too high or too low?"""

import streamlit as st

from dashboard import figures, queries

number = st.column_config.NumberColumn

mart = st.session_state.mart
st.info(queries.finding(mart, "calibration"))

models = queries.calibrated_models(mart).set_index("model_id")["name"]
model_id = st.selectbox("Model", models.index.tolist(), format_func=models.to_dict().get)
slices = queries.calibration_by_slice(mart, model_id)
st.plotly_chart(figures.calibration_by_slice(slices), theme=None)
st.caption(
    "Most evidence of miscalibration first, by p-values over periods, adjusted over all slices with enough rows"
    " (Benjamini-Hochberg). The bars are 95 % intervals of each slice alone."
)
pairs = queries.slice_discovery(mart, model_id)
st.markdown("Pairs of slices that one half of the test periods says are off, for the chosen model:")
if pairs.empty:
    st.markdown("None was found.")
else:
    st.dataframe(
        pairs,
        hide_index=True,
        column_order=[
            *("slice_a", "slice_b", "is_confirmed", "search_ratio", "confirm_ratio", "confirm_excess_conversions"),
            *("confirm_p_adjusted", "confirm_n", "confirm_conversions", "n_searched"),
        ],
        column_config={
            "is_confirmed": st.column_config.CheckboxColumn("confirmed", help="By the half that was not searched."),
            "search_ratio": number("ratio where found", format="%.2f", help="Expected over observed conversions."),
            "confirm_ratio": number("ratio in the other half", format="%.2f"),
            "confirm_excess_conversions": number("conversions too many", format="%+.1f"),
            "confirm_p_adjusted": number("adjusted p-value", format="%.4f"),
            "confirm_n": number("rows", format="localized"),
            "confirm_conversions": number("conversions", format="localized"),
            "n_searched": number("pairs searched", format="localized"),
        },
    )

st.subheader("Reliability on the test periods")
st.markdown(queries.finding(mart, "reliability"))
st.plotly_chart(figures.reliability_curve(queries.reliability_curve(mart, model_id)), theme=None)
st.caption(
    "CORP: the observed rate at each p by isotonic regression, without bins. The band takes rows as independent; weeks"
    " that differ push points out of it."
)
st.dataframe(
    queries.calibration_error(mart),
    hide_index=True,
    column_order=[
        "label",
        "calibration_error",
        "calibration_error_lo",
        "calibration_error_hi",
        "ece_raw",
        "ece_raw_if_perfect",
        "logloss",
        "miscalibration",
        "discrimination",
        "uncertainty",
        "observed_rate",
        "n",
        "n_periods",
    ],
    column_config={
        "label": "model",
        "calibration_error": number("error, debiased", format="%.5f", help="Root mean square over bins, less chance."),
        "calibration_error_lo": number("from", format="%.5f"),
        "calibration_error_hi": number("to", format="%.5f"),
        "ece_raw": number("error, raw", format="%.5f"),
        "ece_raw_if_perfect": number("raw if perfect", format="%.5f", help="Of a perfect model with as many rows."),
        "logloss": number(format="%.5f"),
        "miscalibration": number(format="%.5f", help="Logloss = miscalibration - discrimination + uncertainty."),
        "discrimination": number(format="%.5f"),
        "uncertainty": number(format="%.5f"),
        "observed_rate": number("observed", format="percent"),
        "n": number("rows", format="localized"),
        "n_periods": "periods",
    },
)

st.subheader("Methods of calibration")
st.markdown(queries.finding(mart, "calibrators"))
st.dataframe(
    queries.calibrator_comparison(mart, model_id),
    hide_index=True,
    column_order=[
        "method",
        "is_chosen",
        "calib_periods",
        "calib_logloss",
        "calib_delta",
        "calib_delta_lo",
        "calib_delta_hi",
        "test_logloss",
        "test_delta",
        "test_delta_lo",
        "test_delta_hi",
        "test_brier",
        "test_calibration_error",
        "test_periods",
        "why",
    ],
    column_config={
        "is_chosen": st.column_config.CheckboxColumn("chosen", help="On the calib periods alone."),
        "calib_periods": number("calib periods", help="Predicted from earlier ones."),
        "calib_logloss": number("logloss there", format="%.6f"),
        "calib_delta": number("against platt", format="%+.6f"),
        "calib_delta_lo": number("from", format="%+.6f"),
        "calib_delta_hi": number("to", format="%+.6f"),
        "test_logloss": number("logloss on test", format="%.6f"),
        "test_delta": number("against platt", format="%+.6f"),
        "test_delta_lo": number("from", format="%+.6f"),
        "test_delta_hi": number("to", format="%+.6f"),
        "test_brier": number("Brier", format="%.6f"),
        "test_calibration_error": number("error, debiased", format="%.5f"),
        "test_periods": "test periods",
    },
)

st.subheader("Small slices")
st.markdown(queries.finding(mart, "shrinkage"))
shrunk, gain = queries.slice_shrinkage(mart), queries.shrinkage_gain(mart)
if not shrunk.empty:
    st.plotly_chart(figures.slice_shrinkage(shrunk), theme=None)
    st.caption("Values whose correction would move most conversions, level by level. Of the chosen model.")
if not gain.empty:
    st.dataframe(
        gain,
        hide_index=True,
        column_order=[
            "level",
            "correction",
            "error",
            "vs_none",
            "vs_none_lo",
            "vs_none_hi",
            "vs_raw",
            "vs_raw_lo",
            "vs_raw_hi",
            "learned_periods",
            "n_periods",
        ],
        column_config={
            "error": number("misses", format="%.1f", help="(conversions - corrected)² ÷ max(expected, 1), summed."),
            "vs_none": number("against p as it is", format="percent"),
            "vs_none_lo": number("from", format="percent"),
            "vs_none_hi": number("to", format="percent"),
            "vs_raw": number("against raw ratios", format="percent"),
            "vs_raw_lo": number("from", format="percent"),
            "vs_raw_hi": number("to", format="percent"),
            "learned_periods": "learned on periods",
            "n_periods": "judged on later ones",
        },
    )
