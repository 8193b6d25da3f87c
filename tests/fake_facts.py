"""Small, internally consistent facts: what the jobs would write for a tiny night, made from arithmetic alone.

Tests of everything behind the facts (dbt, dashboard) start here. What training and evaluation write, in the flavours of
a nightly and of a sweep, is in tests/fake_training.py; what scoring writes, in tests/fake_scores.py.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import fake_audits
import fake_delay
import fake_scores
import fake_value
import numpy as np
import pyarrow.parquet as pq
from fake_operations import operations_facts
from fake_scores import DATA_THROUGH
from fake_training import CYCLE, NIGHTLY, SPLITS, Flavour, Rows, evaluation
from fake_training import period as _period

from jobs import facts

STARTED = dt.datetime(2026, 11, 21, 2, 0)
FIELDS = {"brand": 0.0, "history": 0.6, "store": 0.1}  # how far the last period is pushed, on the normal scale


def labels_and_rates() -> dict[str, Rows]:
    """Facts of `ingest` and `encode`, and the cost rates."""
    split_of = [name for name, periods in SPLITS.items() for _ in range(periods)]
    names = ["train"] * 10 + split_of + ["unused"]
    rates = [
        {"period": _period(len(names) - 1 - i), "split": split, "exposures": 600, "conversions": 60 - i}
        | {"conversions_first": 50 - i, "conversions_former": 60 - i - (0 if i < len(names) - 1 else 5)}
        | {"is_mature": i < len(names) - 1}
        for i, split in enumerate(names)
    ]
    return {
        "label_rates": rates,
        "ingest_counts": [
            {"source": "exposures", "reason": None, "rows": 12_600},
            {"source": "exposures", "reason": "duplicate key", "rows": 12},
            {"source": "exposures", "reason": "time after the cycle date", "rows": 3},
        ],
        "rates": [{"usd_per_cpu_hour": 0.04, "usd_per_gib_hour": 0.005, "usd_per_gib_month": 0.02, "rates_sha": "ra"}],
    }


def night(flavour: Flavour = NIGHTLY) -> dict[str, Rows]:
    """Facts of the second half of the night: scores, drift, decisions, run and release."""
    k = flavour.verdict_k
    scored = fake_scores.night(f"refit-ffm-k{k}", flavour.has_shadow)
    return scored | {"drift_bins": _drift_bins()} | _decisions(k) | _run(k) | operations_facts(f"refit-ffm-k{k}", k)


def _drift_bins() -> Rows:
    rng = np.random.default_rng(5)
    found = []
    for subject, field, push in [("field", name, push) for name, push in FIELDS.items()] + [("score", "score", 0.05)]:
        reference = rng.normal(0, 1, 6_000)
        edges = np.quantile(reference, np.linspace(0, 1, 11))[1:-1]
        samples = [(None, reference)] + [
            (_period(weeks), rng.normal(push * (5 - weeks) / 4, 1, 600)) for weeks in range(4, 0, -1)
        ]
        for period, values in samples:
            counts = np.bincount(np.searchsorted(edges, values), minlength=10)
            found += [
                {"subject": subject, "field": field, "period": period, "is_reference": period is None}
                | {"bin": f"decile {i + 1:02d}", "bin_order": i + 1, "n": int(count)}
                for i, count in enumerate(counts)
            ]
    return found


def _decisions(k: int) -> dict[str, Rows]:
    shared = {"gate_sha": "gate", "evidence_sha": "evidence"}
    decisions = [
        {"decision_id": "d-1", "seq": 1, "cycle_date": CYCLE - dt.timedelta(weeks=1), "verdict": "HOLD", "k": 2}
        | {"decided_at": STARTED - dt.timedelta(days=1), "reason": "soft rule ece", "candidate_model_id": "older"}
        | {"champion_model_id": None, "entry_hash": "aa", "decided_by": None, "next_action": "look"}
        | shared,
        {"decision_id": "d-2", "seq": 4, "cycle_date": CYCLE, "verdict": "GO", "k": k}
        | {"decided_at": STARTED, "reason": f"all 5 rules pass for k = {k}"}
        | {"candidate_model_id": f"ffm-k{k}", "champion_model_id": f"refit-ffm-k{k}", "entry_hash": "bb"}
        | {"decided_by": "night", "next_action": "promote"}
        | shared,
    ]
    cost, lift = "fct_accuracy_cost_by_k", "fct_kpi_lift"
    rules = [
        ("gate_registered_before_evaluation", "hard", "gate", "1 if the gate is the one recorded", "==", 1.0, 1.0),
        ("normalized_entropy", "hard", cost, "normalized_entropy where is_verdict", "<=", 0.95, 0.86),
        ("auc", "hard", cost, "auc where is_verdict", ">=", 0.8, 0.823),
        ("cost_budget", "hard", cost, "usd_per_1m_scores where is_verdict", "<=", 0.05, 0.00003),
        ("profit_above_prior", "soft", lift, "delta_lo where baseline = 'prior'", ">", 0.0, 21.5),
    ]
    names = ("rule", "severity", "mart", "metric", "operator", "threshold", "value")
    found: Rows = [
        {"decision_id": "d-2", "seq": i, **dict(zip(names, rule, strict=True)), "outcome": "pass", "why": "It must."}
        | {"note": None, "periods_needed": None, "days_needed": None}
        for i, rule in enumerate(rules, start=1)
    ]
    held = dict(zip(names, ("ece", "soft", cost, "ece", "<=", 0.1, None), strict=True))
    wait = {"note": None, "periods_needed": None, "days_needed": None}
    found.append({"decision_id": "d-1", "seq": 1, **held, "outcome": "missing", "why": "It must."} | wait)
    return {"decisions": decisions, "decision_rules": found, "approvals": [], "alias_changes": _alias_changes(k)}


def _alias_changes(k: int) -> Rows:
    """The prior was live; a model was promoted, shown and left by the guard; now tonight's is promoted and shown."""
    changes = [
        ("live", "publish", "tiny-2017-12-11", "prior", 100),
        ("champion", "decision", "GO", "older", 60),
        ("live", "publish", "tiny-2017-12-18", "older", 50),
        ("champion", "guard", "AUTO_ROLLBACK tiny-2017-12-18 to tiny-2017-12-11: live_rank_agreement: 0.02", None, 49),
        ("live", "guard", "AUTO_ROLLBACK tiny-2017-12-18 to tiny-2017-12-11: live_rank_agreement: 0.02", "prior", 49),
        ("challenger", "decision", "GO", f"ffm-k{k}", 1),
        ("champion", "decision", "GO", f"refit-ffm-k{k}", 1),
        ("live", "publish", "tiny-2017-12-25-0001", f"refit-ffm-k{k}", 0),
    ]
    seen: list[str] = []
    rows: Rows = []
    for number, (alias, cause, note, model_id, hours) in enumerate(changes, start=1):
        seen.append(alias)
        rows.append(
            {"contract": "tiny", "alias": alias, "seq": seen.count(alias), "cause": cause, "note": note}
            | {"changed_at": STARTED - dt.timedelta(hours=hours), "model_id": model_id, "cycle_date": CYCLE}
            | {"entry_id": f"e-{number}", "release_id": None, "decision_id": None}
        )
    return rows


def _run(k: int) -> dict[str, Rows]:
    stages = ("ingest", "encode", "train", "evaluate", "decide", "score", "monitor")
    return {
        "runs": [
            {"run_id": "run-1", "contract": "tiny", "contract_sha": "c", "cycle_date": CYCLE, "snapshot_id": "s"}
            | {"data_through": DATA_THROUGH, "examples_id": "e", "label_version": "last touch, 7 days, purchase"}
            | {"git_sha": "g", "lock_sha": "l", "python": "3.12", "spark": "4.3.0", "jvm": "17.0.15"}
            | {"machine": "fake", "cores": 2, "env_hash": "e"}
            | {"started_at": STARTED}
        ],
        "run_stages": [
            {"run_id": "run-1", "seq": i, "stage": stage, "status": "done", "wall_s": 1.0 + i, "rows": 1_000}
            | {"started_at": STARTED + dt.timedelta(seconds=10 * i), "bytes_written": 9_000, "peak_rss_mib": 200.0}
            for i, stage in enumerate(stages, start=1)
        ],
        "release": [
            {"release_id": "tiny-2017-12-25-0001", "contract": "tiny", "cycle_date": CYCLE, "run_id": "run-1"}
            | {"data_through": DATA_THROUGH, "data_through_day": CYCLE, "verdict": "GO", "decision_id": "d-2"}
            | {"score_source": "model"}
            | {"champion_model_id": f"refit-ffm-k{k}", "data_note": "Made up: no household, no ad, no sale."}
        ],
    }


def evidence(flavour: Flavour = NIGHTLY) -> dict[str, Rows]:
    """Facts that exist before the decision."""
    measured = staleness(f"ffm-k{flavour.verdict_k}") if flavour.has_staleness else []
    rates = labels_and_rates()
    delayed = {"delayed_feedback": fake_delay.delayed_feedback() if flavour.has_staleness else []}
    late = delayed | fake_delay.label_delay(rates["label_rates"]) | fake_audits.audits(flavour)
    return rates | evaluation(flavour) | fake_value.value_facts(flavour) | {"staleness_cost": measured} | late


def staleness(model_id: str) -> Rows:
    """Fact of `staleness`: every week of age loses 1 % of logloss, surely, and from the second on conversions, too."""
    about = {"model_id": model_id, "period_days": 7, "n": 3_600, "conversions": 300, "budget_top_n": 20}
    about |= {"contacted": 120, "test_from": _period(SPLITS["test"]), "test_through": _period(1)}
    found = []
    for lag in range(4):
        worse, missed, sure = 0.01 * lag, 2 * lag, 0.0 if lag == 0 else 1.0
        found.append(
            {"lag_periods": lag, "is_reference": lag == 0, "sum_p": 300.0 - 3 * lag, "sum_logloss": 900 * (1 + worse)}
            | {"delta_logloss": 0.25 * worse, "delta_lo": 0.2 * worse, "delta_hi": 0.3 * worse}
            | {"delta_relative": worse, "delta_relative_lo": 0.8 * worse, "delta_relative_hi": 1.2 * worse}
            | {"calibration_ratio_lo": 0.9 - 0.01 * lag, "calibration_ratio_hi": 1.1 - 0.01 * lag}
            | {"captured": 100 - missed, "captured_delta": -float(missed)}
            | {"captured_delta_lo": -missed - 3 * sure, "captured_delta_hi": -missed + 3 * sure}
            | {"captured_relative": -missed / 100, "captured_relative_lo": (-missed - 3 * sure) / 100}
            | {"captured_relative_hi": (-missed + 3 * sure) / 100, "n_periods": SPLITS["test"]}
            | about
        )
    return found


def write(folder: Path, rows: dict[str, Rows]) -> dict[str, str]:
    """Write each fact to `folder`/<fact>/part-0.parquet; returns fact -> glob, as jobs.warehouse.build takes it."""
    for name, listed in rows.items():
        target = folder / name / "part-0.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(facts.table(name, listed), target)
    return {name: str(folder / name / "*.parquet") for name in rows}
