"""What is served this cycle, may it be, and what does one entity get?"""

import streamlit as st

from dashboard import figures, queries

mart = st.session_state.mart
number, moment = st.column_config.NumberColumn, st.column_config.DatetimeColumn
scoring = queries.scoring(mart)
served = scoring.iloc[0]
callout = st.error if served["is_degraded"] else {"model": st.info}.get(served["score_source"], st.warning)
callout(queries.finding(mart, "scores"))
st.dataframe(
    scoring,
    hide_index=True,
    column_order=[
        "score_source",
        "reason",
        "model_id",
        "requested_model_id",
        "score_date",
        "data_through",
        "staleness_hours",
        "scored_at",
        "pairs",
        "engine",
    ],
    column_config={
        "score_source": "source",
        "model_id": "model",
        "requested_model_id": "champion",
        "score_date": st.column_config.DateColumn("cycle"),
        "data_through": moment("data before (UTC)", format="YYYY-MM-DD HH:mm"),
        "staleness_hours": number("hours behind this cycle", format="%.1f"),
        "scored_at": moment("scored at (UTC)", format="YYYY-MM-DD HH:mm"),
        "pairs": number("scores", format="localized"),
    },
)

st.subheader("Audits")
audits = queries.score_audits(mart)
if audits.empty:
    st.markdown("No scores of this cycle were audited.")
else:
    st.plotly_chart(figures.score_audits(audits), theme=None)
    st.dataframe(
        audits,
        hide_index=True,
        column_order=["passed", "label", "value", "low", "high", "is_of_served_scores", "model_id", "why"],
        column_config={
            "label": "audit",
            "value": number(format="%.9g"),
            "low": number("at least", format="%.9g"),
            "high": number("at most", format="%.9g"),
            "is_of_served_scores": "of what is served",
            "model_id": "model",
            "why": st.column_config.TextColumn(width="large"),
        },
    )

st.subheader("One entity")
left, right = st.columns([1, 2])
with left:
    containing = st.text_input("Entity id contains", help="The list shows the first thousand that do.")
    found = queries.entities(mart, containing).set_index("entity_id")
    entity_id = st.selectbox("Entity", found.index.tolist())
with right:
    if entity_id is None:
        st.markdown("No entity has such an id.")
    elif not found["candidates_scored"][entity_id]:
        st.markdown("Nothing is on offer to this entity, so it has no scores.")
    else:
        scores = queries.entity_scores(mart, entity_id)
        st.plotly_chart(figures.entity_scores(scores), theme=None)
        st.dataframe(
            scores,
            hide_index=True,
            column_order=[
                "rank_in_entity",
                "candidate_label",
                "p",
                "raw_score",
                "rank_in_candidate",
                "confidence_band",
                "oov_share",
                "score_source",
            ],
            column_config={
                "rank_in_entity": "rank",
                "candidate_label": "candidate",
                "p": number(format="%.5f"),
                "raw_score": number("raw score", format="%.4f"),
                "rank_in_candidate": number("rank for the candidate", help="Empty where it is not among the best."),
                "confidence_band": "confidence",
                "oov_share": number("unknown fields", format="percent"),
                "score_source": "source",
            },
        )

st.subheader("Time")
st.markdown(queries.finding(mart, "score_stages"))
st.plotly_chart(figures.score_stages(queries.score_stages(mart)), theme=None)
st.caption("Measured inside the tasks, each of which scores one block of entities; *block* is the whole of it.")
with st.expander("Blocks, the slowest first"):
    st.dataframe(
        queries.score_blocks(mart),
        hide_index=True,
        column_order=[
            "block",
            "is_skewed",
            "wall_s",
            "wall_over_median",
            "entities",
            "pairs",
            "pairs_per_s",
            "read_s",
            "prepare_s",
            "score_s",
            "rank_s",
            "write_s",
            "cpu_s",
            "jit_s",
            "peak_rss_mib",
            "worker",
            "model_loads",
            "is_resumed",
        ],
        column_config={
            "is_skewed": "skewed",
            "wall_s": number("seconds", format="%.2f"),
            "wall_over_median": number("÷ median", format="%.2f"),
            "pairs": number("scores", format="localized"),
            "pairs_per_s": number("scores per s", format="compact"),
            "read_s": number("read s", format="%.2f"),
            "prepare_s": number("prepare s", format="%.2f"),
            "score_s": number("score s", format="%.2f"),
            "rank_s": number("rank s", format="%.2f"),
            "write_s": number("write s", format="%.2f"),
            "cpu_s": number("CPU s", format="%.2f"),
            "jit_s": number("compiling s", format="%.2f"),
            "peak_rss_mib": number("peak MiB", format="%.0f"),
            "model_loads": number("model loads", help="Of that process, up to this block."),
            "is_resumed": "found finished",
        },
    )

st.subheader("Shadow")
shadow = queries.shadow(mart)
st.markdown(queries.finding(mart, "shadow"))
if not shadow.empty:
    st.plotly_chart(figures.shadow(shadow), theme=None)

st.subheader("What older scores cost")
ages = queries.staleness_cost(mart)
st.markdown(queries.finding(mart, "staleness"))
if not ages.empty:
    st.plotly_chart(figures.staleness_cost(ages), theme=None)
    st.caption(
        "The same test rows, scored as so many days earlier. Crosses: surely worse. Intervals are 95 % over test"
        " periods."
    )
    st.dataframe(
        ages,
        hide_index=True,
        column_order=[
            "age_days",
            "logloss",
            "delta_relative",
            "delta_relative_lo",
            "delta_relative_hi",
            "calibration_ratio",
            "captured",
            "captured_share",
            "captured_delta",
            "captured_delta_lo",
            "captured_delta_hi",
            "contacted",
            "n",
            "conversions",
            "n_periods",
            "model_id",
        ],
        column_config={
            "age_days": "days old",
            "logloss": number(format="%.5f"),
            "delta_relative": number("against fresh", format="percent"),
            "delta_relative_lo": number("from", format="percent"),
            "delta_relative_hi": number("to", format="percent"),
            "calibration_ratio": number("mean p ÷ observed", format="%.3f"),
            "captured": number("conversions captured", format="localized"),
            "captured_share": number("of all", format="percent"),
            "captured_delta": number("captured, against fresh", format="%+.0f"),
            "captured_delta_lo": number("at least", format="%+.0f"),
            "captured_delta_hi": number("at most", format="%+.0f"),
            "n": number("rows", format="localized"),
            "n_periods": "periods",
            "model_id": "model",
        },
    )
