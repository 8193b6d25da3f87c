"""Facts of the model audits of a tiny night: arithmetic, with one thing in each that a reader must see."""

from __future__ import annotations

from fake_training import SPLITS, Flavour, Rows, period

FIELDS = ("brand", "history", "store")
GROUPS = {"young": (0.9, 1.1), "old": (1.3, 1.5), "(missing)": (0.7, 1.3)}  # interval of the calibration ratio


def audits(flavour: Flavour) -> dict[str, Rows]:
    """All audit facts; a sweep's contract declares no groups and its field `history` knows the label."""
    model_id, is_sweep = f"ffm-k{flavour.verdict_k}", flavour.name == "sweep"
    return {
        "leakage": [{"model_id": model_id, **row} for row in _leakage(is_sweep)],
        **_age(model_id),
        "domain_shift": _domain_shift(),
        "fairness": [] if is_sweep else _fairness(model_id),
        "fairness_proxy": [] if is_sweep else _proxy(model_id),
        "field_pairs": [row for k in (1, 2, 4) for row in _field_pairs(f"ffm-k{k}", k)],
    }


def _leakage(is_leaking: bool) -> Rows:
    found = []
    for place, field in enumerate(FIELDS):
        value = 0.97 if is_leaking and field == "history" else 0.6 + 0.05 * place
        ends = {"value_lo": value - 0.01, "value_hi": value + 0.01}
        found.append(
            {"audit": "field_alone", "subject": field, "value": value, "allowed": 0.81, "passed": value < 0.81}
            | {**ends, "why": "A field alone must stay below it."}
        )
        found.append(
            {"audit": "field_fallen", "subject": field, "value": 0.01, "allowed": 0.05, "passed": True}
            | {"value_lo": 0.0, "value_hi": 0.02, "why": "It must hold afterwards."}
        )
    found.append(
        {"audit": "keys_only", "subject": "household + family", "value": 0.05, "allowed": 0.01, "passed": True}
        | {"value_lo": 0.04, "value_hi": 0.06, "why": "Else it is memory."}
    )
    found.append(
        {"audit": "shuffled_labels", "subject": "model", "value": 0.503, "allowed": 0.02, "passed": True}
        | {"value_lo": 0.502, "value_hi": 0.504, "why": "Chance."}
    )
    return found


def _age(model_id: str) -> dict[str, Rows]:
    """The older version loses 2 % everywhere."""
    versions = []
    for place in range(SPLITS["test"]):
        for version, gap, loss in (("newer", 0, 100.0), ("older", 4, 102.0)):
            versions.append(
                {"model_id": model_id, "version": version, "period": period(SPLITS["test"] - place), "period_days": 7}
                | {"train_through": period(SPLITS["test"] + 1 + gap), "age_periods": 1 + place + gap, "n": 600}
                | {"conversions": 50, "sum_p": 55.0, "sum_logloss": loss + place}
            )
    effects = [
        {"model_id": model_id, "kind": "paired", "age_periods": 4, "change": 0.02, "change_lo": 0.015}
        | {"change_hi": 0.025, "period_days": 7, "n_periods": SPLITS["test"]},
        {"model_id": model_id, "kind": "course", "age_periods": 1, "change": 0.001, "change_lo": -0.02}
        | {"change_hi": 0.022, "period_days": 7, "n_periods": SPLITS["test"]},
    ]
    return {"model_age": versions, "model_age_effect": effects}


def _domain_shift() -> Rows:
    found = []
    for comparison, area in (("test", 0.95), ("alternate", 0.75), ("adjacent", 0.9)):
        about = {"comparison": comparison, "n": 1_000, "periods": 6, "reference_periods": 6}
        for field, value in ((None, area), *((name, 0.5 + (area - 0.75) * (name == "history")) for name in FIELDS)):
            found.append(about | {"field": field, "auc": value, "auc_lo": value - 0.01, "auc_hi": value + 0.01})
    return found


def _fairness(model_id: str) -> Rows:
    found = []
    for place, (group, (lo, hi)) in enumerate(GROUPS.items()):
        found.append(
            {"model_id": model_id, "attribute": "age", "group_value": group, "entities": 20, "n": 1_200 - 100 * place}
            | {"conversions": 100, "sum_p": 50 * (lo + hi), "calibration_ratio_lo": lo, "calibration_ratio_hi": hi}
            | {"calibration_ratio_lo_entity": lo, "calibration_ratio_hi_entity": hi, "auc": 0.8, "auc_lo": 0.75}
            | {"auc_hi": 0.85, "top_n": 20, "contacted": 40, "captured": 10, "min_n": 1_100}
        )
    return found


def _proxy(model_id: str) -> Rows:
    return [
        {"model_id": model_id, "attribute": "age", "group_value": group, "groups": 3, "entities": 20, "auc": 0.7}
        | {"auc_lo": 0.6, "auc_hi": 0.8, "recall": 0.5, "balanced_accuracy": 0.5, "fields": 2, "all_fields": 3}
        for group in GROUPS
    ]


def _field_pairs(model_id: str, k: int) -> Rows:
    """Shares that sum to 1: fields alone 0.7, pairs 0.3, one of them negative."""
    shares = {("brand", None): 0.3, ("history", None): 0.4, ("store", None): 0.0}
    shares |= {("brand", "history"): 0.25, ("brand", "store"): 0.1, ("history", "store"): -0.05}
    return [
        {"model_id": model_id, "k": k, "field_a": a, "field_b": b, "share": share, "variance": 2 * abs(share)}
        | {"mean_abs": abs(share), "logit_variance": 2.0, "n": 3_600}
        for (a, b), share in shares.items()
    ]
