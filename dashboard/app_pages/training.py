"""Did training stop in time, and where did its time go?"""

import streamlit as st

from dashboard import figures, queries

mart = st.session_state.mart
epochs = queries.training_curve(mart)
callout = st.warning if epochs["is_overfit_alarm"].any() else st.info
callout(queries.finding(mart, "training_curve"))

st.plotly_chart(figures.training_curve(epochs), theme=None)
st.caption(
    "Each line is relative to its value at the epoch kept, where both are 0. Valid above and train below 0 after that"
    " epoch: what was learned since is noise. The seed that goes live."
)

st.subheader("Cost")
st.markdown(queries.finding(mart, "training_cost"))
stages = queries.training_cost(mart)
st.plotly_chart(figures.training_cost(stages), theme=None)
st.caption("Chart: the seed that goes live. Table: all seeds, the most uneven stages first. Partitions are Spark's.")
number = st.column_config.NumberColumn
st.dataframe(
    stages,
    hide_index=True,
    column_order=[
        "label",
        "seed",
        "strategy",
        "stage",
        "is_skewed",
        "n_partitions",
        "rows_max_over_median",
        "wall_max_over_median",
        "slowest_partition",
        "slowest_wall_s",
        "cpu_s",
        "share_of_cpu",
        "jit_s",
        "rows_per_s",
        "peak_rss_mib",
    ],
    column_config={
        "label": "model",
        "is_skewed": "skewed",
        "n_partitions": "partitions",
        "rows_max_over_median": number("rows, max ÷ median", format="%.2f"),
        "wall_max_over_median": number("seconds, max ÷ median", format="%.2f"),
        "slowest_partition": "slowest partition",
        "slowest_wall_s": number("its seconds", format="%.1f"),
        "cpu_s": number("CPU s", format="%.1f"),
        "share_of_cpu": number("share of CPU", format="percent"),
        "jit_s": number("compiling s", format="%.1f"),
        "rows_per_s": number("rows per s", format="compact"),
        "peak_rss_mib": number("peak MiB", format="%.0f"),
    },
)
