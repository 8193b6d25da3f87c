"""Every chart of the dashboard: rows of a query in, a Plotly figure out. Error bars are 95 % intervals."""

from dashboard.figures.accuracy import accuracy_cost_by_k, baselines, lever_gain
from dashboard.figures.calibration import calibration_by_slice, reliability
from dashboard.figures.decision import decision_rules
from dashboard.figures.drift import drift_by_field, label_maturity, score_drift
from dashboard.figures.scoring import entity_scores, score_audits, score_stages, shadow, staleness_cost
from dashboard.figures.training import training_cost, training_curve
from dashboard.figures.value import kpi_lift, value_by_period

__all__ = [
    "accuracy_cost_by_k",
    "baselines",
    "calibration_by_slice",
    "decision_rules",
    "drift_by_field",
    "entity_scores",
    "kpi_lift",
    "label_maturity",
    "lever_gain",
    "reliability",
    "score_audits",
    "score_drift",
    "score_stages",
    "shadow",
    "staleness_cost",
    "training_cost",
    "training_curve",
    "value_by_period",
]
