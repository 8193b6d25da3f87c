"""Are the promises kept, how do the nights go, and did the served scores come true?"""

import streamlit as st

from dashboard import figures, queries

mart = st.session_state.mart
number = st.column_config.NumberColumn
date = st.column_config.DateColumn
promises = queries.slo(mart)
callout = st.error if promises["is_alarm"].any() else st.info
callout(queries.finding(mart, "operations"))

st.subheader("Promises")
if promises["error_budget_left"].notna().any():
    st.plotly_chart(figures.slo(promises), theme=None)
st.dataframe(
    queries.slo_in_words(mart),
    hide_index=True,
    column_order=[
        *("title", "objective", "attained", "previous_attained", "observations", "missed", "error_budget_left"),
        *("value_p50", "value_p95", "value_max", "last_value", "regression", "is_alarm"),
    ],
    column_config={
        "title": "promise",
        "objective": number(format="percent"),
        "attained": number(format="percent"),
        "previous_attained": number("window before", format="percent"),
        "observations": number("observed", format="localized"),
        "missed": number(format="localized"),
        "error_budget_left": number("budget left", format="percent"),
        "value_p50": "median",
        "value_p95": "p95",
        "value_max": "largest",
        "last_value": "last",
        "regression": number("growth", format="percent"),
        "is_alarm": "alarm",
    },
)
st.caption(
    "As of the building of this release, whose own publication counts from the next one on; `fieldmart slo` and"
    " `fieldmart health` say how things stand now. What nobody observed is neither kept nor broken: probes come from"
    " `fieldmart probe`, recovery from `fieldmart drill`."
)

st.subheader("Did the served scores come true?")
st.markdown(queries.finding(mart, "live_performance"))
live = queries.live_performance(mart)
if not live.empty:
    st.plotly_chart(figures.live_performance(live), theme=None)
    st.caption(
        "Estimated without labels, as if p were right; intervals are 95 %, for exposures that vary as much together as"
        " those of earlier final periods did; where there was none before (dispersion not known), for independent ones,"
        " which makes them too narrow. A realised value outside says that p is off by more than chance. Only"
        " exposures of a scored pair count."
    )
    st.dataframe(
        live,
        hide_index=True,
        column_order=[
            *("period", "served_release_id", "score_source", "n", "coverage", "expected_conversions", "conversions"),
            *("calibration_ratio", "is_inside", "estimated_logloss", "realised_logloss", "estimate_error"),
            *("is_logloss_inside", "base_rate_logloss", "dispersion", "is_dispersion_known", "is_mature"),
        ],
        column_config={
            "period": date(format="YYYY-MM-DD"),
            "served_release_id": "release",
            "score_source": "source",
            "n": number("exposures with a score", format="localized"),
            "coverage": number("of all", format="percent"),
            "expected_conversions": number("expected", format="%.0f"),
            "conversions": number("came", format="localized"),
            "calibration_ratio": number("expected ÷ realised", format="%.3f"),
            "is_inside": "inside",
            "estimated_logloss": number(format="%.5f"),
            "realised_logloss": number(format="%.5f"),
            "estimate_error": number("error of the estimate", format="%+.5f"),
            "is_logloss_inside": "logloss inside",
            "base_rate_logloss": number("logloss of the rate", format="%.5f"),
            "dispersion": number(format="%.2f"),
            "is_dispersion_known": "dispersion known",
            "is_mature": "labels final",
        },
    )

st.subheader("Nights")
history = queries.nights(mart)
st.plotly_chart(figures.nights(history), theme=None)
st.dataframe(
    history,
    hide_index=True,
    column_order=[
        *("cycle_date", "started_at", "published_at", "is_ready_in_time", "is_replay", "wall_s", "verdict", "k"),
        *("score_source", "is_degraded", "logloss", "pairs", "usd", "peak_rss_mib"),
    ],
    column_config={
        "cycle_date": date("DATE", format="YYYY-MM-DD"),
        "started_at": st.column_config.DatetimeColumn("started (UTC)", format="YYYY-MM-DD HH:mm"),
        "published_at": st.column_config.DatetimeColumn("readable (UTC)", format="YYYY-MM-DD HH:mm"),
        "is_ready_in_time": "in time",
        "is_replay": "replay",
        "wall_s": number("wall s", format="%.0f"),
        "score_source": "served",
        "is_degraded": "degraded",
        "logloss": number(format="%.5f"),
        "pairs": number("pairs scored", format="localized"),
        "usd": number("US dollars (train, score)", format="%.4f"),
        "peak_rss_mib": number("peak MiB", format="%.0f"),
    },
)

st.subheader("Where the time goes")
stages = queries.stage_percentiles(mart)
st.plotly_chart(figures.stage_percentiles(stages), theme=None)
st.caption(
    "Stages of nights that did the work, longest in all first; `publish: …` are parts of publish, which is known of"
    " earlier nights only. Percentiles of few nights are near the longest."
)
with st.expander("The stages of this release's night"):
    st.dataframe(
        queries.run_stages(mart),
        hide_index=True,
        column_order=["stage", "status", "wall_s", "share_of_wall", "n_rows", "rows_per_s", "bytes_written"],
        column_config={
            "wall_s": number("wall s", format="%.1f"),
            "share_of_wall": number("share", format="percent"),
            "n_rows": number("rows", format="localized"),
            "rows_per_s": number("rows a second", format="localized"),
            "bytes_written": number("written", format="bytes"),
        },
    )

st.subheader("Data quality")
outcomes = queries.data_quality(mart)
if outcomes["is_kept"].all():
    st.markdown("No row of the inputs was put aside.")
else:
    st.plotly_chart(figures.data_quality(outcomes), theme=None)
st.dataframe(
    outcomes,
    hide_index=True,
    column_order=["source", "outcome", "n_rows", "share_of_source"],
    column_config={
        "source": "input",
        "n_rows": number("rows", format="localized"),
        "share_of_source": number("share", format="percent"),
    },
)

st.subheader("Backups, drills, publications")
events = queries.operations(mart)
if events.empty:
    st.markdown("None is in the operations log yet: run `fieldmart backup`, then `fieldmart drill`.")
else:
    st.dataframe(
        events,
        hide_index=True,
        column_order=["happened_at", "kind", "ok", "seconds", "growth", "bytes", "rpo_s", "detail"],
        column_config={
            "happened_at": st.column_config.DatetimeColumn("when (UTC)", format="YYYY-MM-DD HH:mm"),
            "seconds": number(format="%.1f"),
            "growth": number("against the one before", format="percent"),
            "bytes": number(format="bytes"),
            "rpo_s": number("lost at most, s", format="%.0f"),
        },
    )
st.markdown("Which release and which model were live when is on the page *Decision*.")
