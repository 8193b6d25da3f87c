"""Which embedding size is worth its cost?"""

import streamlit as st

from dashboard import figures, queries

mart = st.session_state.mart
st.info(queries.finding(mart, "accuracy_cost"))

candidates = queries.accuracy_cost_by_k(mart)
st.plotly_chart(figures.accuracy_cost_by_k(candidates, queries.seed_metrics(mart)), theme=None)
st.caption(
    "Points are means over the seeds. Intervals on the left are paired over the test periods and simultaneous over the"
    " k compared. Those of each k alone, in the table, are of the seed that goes live; they are wider, because periods"
    " differ, and say nothing about the difference of two k. Dominated: another model that keeps the limits of the"
    " gate is at least as good and as cheap. A k that breaks a limit is shown and never chosen."
)
st.markdown(queries.finding(mart, "test_openings"))

number = st.column_config.NumberColumn
st.dataframe(
    candidates,
    hide_index=True,
    column_order=[
        "label",
        "is_verdict",
        "verdict_from",
        "is_non_inferior",
        "is_on_front",
        "is_dominated",
        "infeasible_reason",
        "delta_logloss",
        "delta_lo_simultaneous",
        "delta_hi_simultaneous",
        "delta_lo_entity",
        "delta_hi_entity",
        "logloss_seed_mean",
        "n_seeds",
        "se_seed",
        "se_period",
        "logloss",
        "logloss_lo",
        "logloss_hi",
        "normalized_entropy",
        "rig",
        "auc",
        "pr_auc",
        "ndcg",
        "mean_average_precision",
        "capture_rate",
        "calibration_ratio",
        "usd_per_1m_scores",
        "score_rows_per_s",
        "score_rows_per_s_cv",
        "artifact_mib",
        "n_parameters",
        "epochs",
        "best_epoch",
        "train_cpu_s",
        "train_wall_s",
        "train_peak_rss_mib",
        "usd_training",
    ],
    column_config={
        "label": st.column_config.TextColumn("model", width="medium"),
        "is_verdict": "chosen",
        "verdict_from": st.column_config.DateColumn("by the sweep of", help="Empty where this night chose k."),
        "is_non_inferior": "not inferior",
        "is_on_front": st.column_config.CheckboxColumn("on the front", help="Pareto front of entropy and cost."),
        "is_dominated": "dominated",
        "infeasible_reason": "limit it breaks",
        "delta_logloss": number("to the best k", format="%+.6f"),
        "delta_lo_simultaneous": number("from (all k at once)", format="%+.6f"),
        "delta_hi_simultaneous": number("to (all k at once)", format="%+.6f"),
        "delta_lo_entity": number("from (by entity)", format="%+.6f", help="Rows clustered by entity, not by period."),
        "delta_hi_entity": number("to (by entity)", format="%+.6f"),
        "logloss_seed_mean": number("logloss, mean over seeds", format="%.5f"),
        "n_seeds": "seeds",
        "se_seed": number(
            "± seeds", format="%.6f", help="Standard error of the difference to the best k, from the seeds."
        ),
        "se_period": number("± periods", format="%.6f", help="The same from the test periods."),
        "logloss": number("test logloss", format="%.5f"),
        "logloss_lo": number("from", format="%.5f"),
        "logloss_hi": number("to", format="%.5f"),
        "normalized_entropy": number("normalized entropy", format="%.4f"),
        "rig": number("information gain", format="%.4f"),
        "auc": number("AUC", format="%.4f"),
        "pr_auc": number("PR-AUC", format="%.4f"),
        "ndcg": number("NDCG", format="%.4f", help="Of each candidate's first entities, as many as are targeted."),
        "mean_average_precision": number("MAP", format="%.4f"),
        "capture_rate": number("conversions captured", format="percent"),
        "calibration_ratio": number("calibration ratio", format="%.3f"),
        "usd_per_1m_scores": number("USD per 1M scores", format="%.6f"),
        "score_rows_per_s": number("scores per s", format="compact"),
        "score_rows_per_s_cv": number("spread of it (cv)", format="%.3f"),
        "artifact_mib": number("model MiB", format="%.2f"),
        "n_parameters": number("parameters", format="localized"),
        "epochs": "epochs",
        "best_epoch": "epoch kept",
        "train_cpu_s": number("training CPU s", format="%.1f"),
        "train_wall_s": number("training s", format="%.1f"),
        "train_peak_rss_mib": number("training peak MiB", format="%.0f"),
        "usd_training": number("training USD", format="%.5f"),
    },
)
st.subheader("Cost by volume")
st.plotly_chart(figures.cost_by_volume(queries.cost_by_volume(mart)), theme=None)
st.caption(
    "What grows with the number of scores and what does not: where training dominates, a cheaper k saves little until"
    " volume grows. Prices are those of conf/rates.yml."
)
with st.expander("What the cost hangs on"):
    st.dataframe(
        queries.cost_sensitivity(mart),
        hide_index=True,
        column_order=[
            "label",
            "rate",
            "usd_by_rate",
            "usd_share",
            "usd_if_halved",
            "usd_per_1m_scores",
            "usd_if_doubled",
        ],
        column_config={
            "label": "model",
            "usd_by_rate": number("USD per million by it", format="%.2g"),
            "usd_share": number("share", format="percent"),
            "usd_if_halved": number("at half the rate", format="%.2g"),
            "usd_per_1m_scores": number("as it is", format="%.2g"),
            "usd_if_doubled": number("at twice the rate", format="%.2g"),
        },
    )
with st.expander("Openings of the test periods"):
    st.dataframe(
        queries.test_openings(mart),
        hide_index=True,
        column_config={
            "test_from": st.column_config.DateColumn("first period"),
            "test_through": st.column_config.DateColumn("last period"),
            "nth": "opening",
            "opened_at": st.column_config.DatetimeColumn("opened at (UTC)", format="YYYY-MM-DD HH:mm"),
            "cycle_date": st.column_config.DateColumn("cycle"),
            "n_models": "models scored",
        },
    )

st.subheader("Baselines")
st.markdown(queries.finding(mart, "baselines"))
baselines = queries.baselines(mart)
st.plotly_chart(figures.baselines(baselines), theme=None)
st.caption(
    "All of the seed that goes live, on the same rows, fields and periods; of several models of one algorithm the best"
    " on valid. Intervals are paired over the test periods."
)
st.dataframe(
    baselines,
    hide_index=True,
    column_order=[
        "label",
        "is_verdict",
        "logloss",
        "logloss_lo",
        "logloss_hi",
        "delta_relative",
        "delta_relative_lo",
        "delta_relative_hi",
        "normalized_entropy",
        "auc",
        "calibration_ratio",
        "usd_per_1m_scores",
        "artifact_mib",
        "train_cpu_s",
        "train_peak_rss_mib",
    ],
    column_config={
        "label": "model",
        "is_verdict": "chosen",
        "logloss": number("test logloss", format="%.5f"),
        "logloss_lo": number("from", format="%.5f"),
        "logloss_hi": number("to", format="%.5f"),
        "delta_relative": number("chosen against it", format="percent"),
        "delta_relative_lo": number("from ", format="percent"),
        "delta_relative_hi": number("to ", format="percent"),
        "normalized_entropy": number("normalized entropy", format="%.4f"),
        "auc": number("AUC", format="%.4f"),
        "calibration_ratio": number("calibration ratio", format="%.3f"),
        "usd_per_1m_scores": number("USD per 1M scores", format="%.6f"),
        "artifact_mib": number("model MiB", format="%.2f"),
        "train_cpu_s": number("training CPU s", format="%.1f"),
        "train_peak_rss_mib": number("training peak MiB", format="%.0f"),
    },
)
