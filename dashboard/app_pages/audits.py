"""Can the numbers of the other pages be believed, and for whom do they hold?"""

import streamlit as st

from dashboard import figures, queries

mart = st.session_state.mart
number = st.column_config.NumberColumn
checks = queries.leakage(mart)
failed = not checks["passed"].fillna(True).all()
(st.error if failed else st.info)(queries.finding(mart, "audits"))

st.subheader("Leakage")
st.plotly_chart(figures.leakage(checks), theme=None)
st.caption(
    "On rows that no candidate has learned from. A field that ranks as well as the model knows more than it may; one"
    " that tells more inside training than after it was known only afterwards; a model of keys alone must be clearly"
    " worse; a model of shuffled labels must rank like chance. That no history field counts its own period or later is"
    " proved by tests, not measured here."
)
with st.expander("All checks"):
    st.dataframe(
        checks,
        hide_index=True,
        column_order=["audit", "subject", "value", "value_lo", "value_hi", "allowed", "headroom", "passed", "why"],
        column_config={
            "value": number(format="%.4f"),
            "value_lo": number("from", format="%.4f"),
            "value_hi": number("to", format="%.4f"),
            "allowed": number("limit", format="%.4f"),
            "headroom": number(format="%+.4f"),
        },
    )

st.subheader("Age of the model")
st.plotly_chart(figures.model_age(queries.model_age(mart)), theme=None)
st.caption(
    "The newer training learned from the valid and calib periods as well. Both judge the same rows, so the difference"
    " in a period is age alone; the course over the periods is age and calendar together."
)
st.dataframe(
    queries.model_age_effect(mart),
    hide_index=True,
    column_order=["kind", "age_days", "change", "change_lo", "change_hi", "change_per_period", "is_worse", "n_periods"],
    column_config={
        "age_days": "days older",
        "change": number("change of the loss", format="percent"),
        "change_lo": number("from", format="percent"),
        "change_hi": number("to", format="percent"),
        "change_per_period": number("per period", format="percent"),
        "is_worse": "surely worse",
        "n_periods": "periods",
    },
)

st.subheader("Have the rows moved?")
shift = queries.domain_shift(mart)
if shift.empty:
    st.markdown("There are too few periods to tell.")
else:
    st.plotly_chart(figures.domain_shift(shift), theme=None)
    st.caption(
        "How well a model tells test rows from rows of the last training periods, on entities it has not seen. Any two"
        " sets of periods differ in what is advertised: what counts is the distance to the reference, which compares"
        " every second training period with those between."
    )

st.subheader("Groups of people")
groups = queries.fairness(mart)
if groups.empty:
    st.markdown("The contract declares no groups (`fairness`).")
else:
    st.markdown(
        "An audit of what is listed here, **not a certificate of fairness**: it knows only groups that were recorded,"
        " and nothing of what is done with the scores."
    )
    st.plotly_chart(figures.fairness(groups), theme=None)
    st.dataframe(
        groups,
        hide_index=True,
        column_order=[
            *("attribute", "group_value", "entities", "n", "conversions", "observed_rate", "calibration_ratio"),
            *("calibration_ratio_lo", "calibration_ratio_hi", "auc", "selection_rate", "selection_ratio"),
            *("conversions_per_contact", "is_below_min_n", "is_off_band"),
        ],
        column_config={
            "group_value": "group",
            "n": number("rows", format="localized"),
            "conversions": number(format="localized"),
            "observed_rate": number("rate", format="percent"),
            "calibration_ratio": number("mean p ÷ observed", format="%.3f"),
            "calibration_ratio_lo": number("from", format="%.3f"),
            "calibration_ratio_hi": number("to", format="%.3f"),
            "auc": number("AUC", format="%.3f"),
            "selection_rate": number("contacted", format="percent"),
            "selection_ratio": number("against all groups", format="%.2f"),
            "conversions_per_contact": number("conversions per contact", format="percent"),
            "is_below_min_n": "too few rows",
            "is_off_band": "surely off",
        },
    )
    guesses = queries.fairness_proxy(mart)
    if guesses.empty:
        st.markdown("No group has entities enough to be guessed from the other fields.")
    else:
        st.markdown("How far the other fields give the group away; leaving the group out does not remove it.")
        st.plotly_chart(figures.fairness_proxy(guesses), theme=None)

st.subheader("What the fields contribute")
k = st.selectbox("k", queries.field_pairs_ks(mart))
terms = queries.field_pairs(mart, k)
st.plotly_chart(figures.field_pairs(terms), theme=None)
st.caption(
    "Exact shares of the variance of the raw scores on test rows: fields alone on the diagonal, pairs beside it. All "
    "shares, pairs counted once, sum to 100 %; a negative share takes back what others say."
)
st.dataframe(
    terms,
    hide_index=True,
    column_order=["term", "share", "variance_share", "mean_abs", "is_pair"],
    column_config={
        "share": number("share of the variance", format="percent"),
        "variance_share": number("own variance", format="percent"),
        "mean_abs": number("mean size, log-odds", format="%.4f"),
        "is_pair": "pair",
    },
)
