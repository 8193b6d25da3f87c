"""Every chart of the dashboard: rows of a query in, a Plotly figure out. Error bars are 95 % intervals."""

from dashboard.figures.accuracy import accuracy_cost_by_k, baselines, cost_by_volume, lever_gain
from dashboard.figures.audits import domain_shift, fairness, fairness_proxy, field_pairs, leakage, model_age
from dashboard.figures.calibration import calibration_by_slice, reliability_curve, slice_shrinkage
from dashboard.figures.decision import decision_rules, incumbent_comparison
from dashboard.figures.drift import drift_by_field, score_drift
from dashboard.figures.label_delay import delayed_feedback, label_delay, label_maturity
from dashboard.figures.operations import data_quality, live_performance, nights, slo, stage_percentiles
from dashboard.figures.scoring import entity_scores, score_audits, score_stages, shadow, staleness_cost
from dashboard.figures.training import training_cost, training_curve
from dashboard.figures.value import kpi_lift, value_by_decile, value_by_period, value_curve, value_sensitivity

__all__ = [
    "accuracy_cost_by_k",
    "baselines",
    "calibration_by_slice",
    "cost_by_volume",
    "data_quality",
    "decision_rules",
    "delayed_feedback",
    "domain_shift",
    "drift_by_field",
    "entity_scores",
    "fairness",
    "fairness_proxy",
    "field_pairs",
    "incumbent_comparison",
    "kpi_lift",
    "label_delay",
    "label_maturity",
    "leakage",
    "lever_gain",
    "live_performance",
    "model_age",
    "nights",
    "reliability_curve",
    "score_audits",
    "score_drift",
    "score_stages",
    "shadow",
    "slice_shrinkage",
    "slo",
    "stage_percentiles",
    "staleness_cost",
    "training_cost",
    "training_curve",
    "value_by_decile",
    "value_by_period",
    "value_curve",
    "value_sensitivity",
]
