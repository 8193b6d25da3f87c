"""Which embedding size is worth its cost?"""

import streamlit as st

from dashboard import figures, queries

mart = st.session_state.mart
st.info(queries.finding(mart, "accuracy_cost"))

candidates = queries.accuracy_cost_by_k(mart)
st.plotly_chart(figures.accuracy_cost_by_k(candidates), theme=None)
st.caption(
    "Intervals on the left are paired over the test periods and simultaneous over the k compared. Those of each k"
    " alone, in the table, are wider, because periods differ, and say nothing about the difference of two k."
    " Dominated: another k is at least as good and as cheap."
)

number = st.column_config.NumberColumn
st.dataframe(
    candidates,
    hide_index=True,
    column_order=[
        "algorithm",
        "k",
        "is_verdict",
        "is_non_inferior",
        "is_dominated",
        "logloss",
        "logloss_lo",
        "logloss_hi",
        "normalized_entropy",
        "auc",
        "calibration_ratio",
        "usd_per_1m_scores",
        "score_rows_per_s",
        "score_rows_per_s_cv",
        "artifact_mib",
        "n_parameters",
        "train_cpu_s",
        "train_peak_rss_mib",
        "usd_training",
    ],
    column_config={
        "is_verdict": "chosen",
        "is_non_inferior": "not inferior",
        "is_dominated": "dominated",
        "logloss": number("test logloss", format="%.5f"),
        "logloss_lo": number("from", format="%.5f"),
        "logloss_hi": number("to", format="%.5f"),
        "normalized_entropy": number("normalized entropy", format="%.4f"),
        "auc": number("AUC", format="%.4f"),
        "calibration_ratio": number("calibration ratio", format="%.3f"),
        "usd_per_1m_scores": number("USD per 1M scores", format="%.6f"),
        "score_rows_per_s": number("scores per s", format="compact"),
        "score_rows_per_s_cv": number("spread of it (cv)", format="%.3f"),
        "artifact_mib": number("model MiB", format="%.2f"),
        "n_parameters": number("parameters", format="localized"),
        "train_cpu_s": number("training CPU s", format="%.1f"),
        "train_peak_rss_mib": number("training peak MiB", format="%.0f"),
        "usd_training": number("training USD", format="%.5f"),
    },
)
st.subheader("Training")
st.plotly_chart(figures.training_curve(queries.training_curve(mart)), theme=None)
