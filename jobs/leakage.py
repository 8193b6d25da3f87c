"""Leakage audit: does anything that the model is given know the label?

Three checks on rows of valid and calib, which no candidate has learned from. Every field alone: one that ranks as well
as the model, or that did so in training and no longer does, knows more than it may. A model of the entity's and the
candidate's keys alone: where that is as good, the fields add nothing but memory. Models that learned shuffled labels:
they must rank like chance. What a history field may count is proved by tests instead (tests/test_history.py: an event
of the row's own period or later changes no row).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from ffm_udf.clustered_auc import Area
from ffm_udf.field_scan import scan
from ffm_udf.leakage_models import canary, keys_only
from jobs import intervals, judged, row_arrays
from jobs.comparison import shown
from jobs.contract import Contract
from jobs.cycle import Cycle
from jobs.judged import Judged
from jobs.training_tasks import spans

Rows = list[dict[str, Any]]

HIGHEST = 0.95  # AUC of one field alone
BELOW_MODEL = 0.01  # by which one field alone has to be worse than the model
FALLEN = 0.05  # AUC inside the training rows above that on later rows
KEYS_GAIN = 0.01  # AUC by which the model has to be better than one of keys alone
CHANCE = 0.02  # by which the mean AUC of models of shuffled labels may surely be off 0.5
SHUFFLES = 60  # their spread of 0.05 to 0.1 leaves the mean an interval of 0.5 ± 0.013 to 0.026
ALLOWED = {"field_alone": "< ", "field_fallen": "< ", "keys_only": "> ", "shuffled_labels": "0.5 ± "}


def run(cycle: Cycle, spark: SparkSession) -> Rows:
    """The audit of the model that the last evaluation of the cycle chose, made anew; LakeError if there is none."""
    with cycle.stage("audit-leakage") as stage:
        rows = judged.opened(cycle, spark)
        chosen = shown(cycle.dataset("k_comparison").table().to_pylist())["model_id"]
        found = leakage_facts(rows, rows.place_of(chosen))["leakage"]
        stage.rows = len(found)
    return found


def show(found: Rows, console: Console) -> bool:
    """Print the audit as a table, what failed first; whether nothing failed."""
    table = Table(
        "audit", "subject", "value (95 % interval)", "allowed", "passed", title=found[0]["model_id"], box=None
    )
    for row in sorted(found, key=lambda row: row["passed"] is not False):
        ends = "" if row["value_lo"] is None else f" ({row['value_lo']:.3f} to {row['value_hi']:.3f})"
        value = "" if row["value"] is None else f"{row['value']:.3f}{ends}"
        passed = {True: "yes", False: "NO", None: "not measured"}[row["passed"]]
        table.add_row(row["audit"], row["subject"], value, f"{ALLOWED[row['audit']]}{row['allowed']:.3g}", passed)
    console.print(table)
    failed = [row for row in found if row["passed"] is False]
    for why in dict.fromkeys(f"{row['audit']}: {row['why']}" for row in failed):
        console.print(why)
    return not failed


def leakage_facts(rows: Judged, place: int) -> dict[str, Rows]:
    """Rows of fact `leakage` for the model at `place`."""
    contract, store = rows.cycle.contract, row_arrays.opened(rows.cycle)
    training = store.span(*spans(rows.cycle)["train"])
    shared = {"place": place, "training": [training.start, training.stop]}
    shared |= {"n_features": rows.cycle.dataset("vocabulary").rows}
    columns, seed = key_columns(contract, store.fields), contract.grid.shipping_seed
    tasks = [rows.task(check=check, **shared) for check in ("scan", "canary")]
    tasks += [rows.task(check="keys", columns=columns, seed=seed, **shared)] if columns else []
    found = dict(zip(("scan", "canary", "keys"), rows.run(check, tasks), strict=False))
    keys = [store.fields[column] for column in columns]
    checks = [*field_rows(found["scan"]), *key_rows(found.get("keys"), keys), canary_row(found["canary"])]
    return {"leakage": [{"model_id": rows.ids[place], **row} for row in checks]}


def check(task: dict[str, Any]) -> Any:
    """Run the check that the task names: scan, keys or canary."""
    if task["check"] == "canary":
        return canary(task | {"seeds": list(range(1, SHUFFLES + 1))})
    return {"scan": scan, "keys": keys_only}[task["check"]](task)


def key_columns(contract: Contract, fields: list[str]) -> list[int]:
    """Columns of the fields that are the entity's or the candidate's key; empty unless there is one of each."""
    found = [
        [rule.name for rule in contract.fields if set(rule.columns) == set(key) and rule.transform == "categorical"]
        for key in (contract.entity, contract.candidate)
    ]
    return sorted({fields.index(names[0]) for names in found}) if all(found) else []


def field_rows(found: dict[str, Any]) -> Rows:
    """Two rows per field: `field_alone`, its AUC on later rows; `field_fallen`, that inside training minus that."""
    model: Area | None = found["model"]
    limit = min(HIGHEST, model.value - BELOW_MODEL) if model else HIGHEST
    rows = []
    for field in found["fields"]:
        area: Area | None = field["area"]
        value, lo, hi = _ends(area)
        rows.append(
            _row("field_alone", field["field"], value, lo, hi, limit, None if value is None else value < limit)
            | {"why": f"A field alone must stay below {HIGHEST:g} and {BELOW_MODEL:g} below the model's AUC."}
        )
        fallen: float | None = None
        gone: tuple[float | None, float | None] = (None, None)
        if value is not None and math.isfinite(field["within"]):
            fallen = field["within"] - value
            if hi is not None:  # the error on the later rows; training has far more of them
                gone = fallen - (hi - value), fallen + (hi - value)
        # A fall that chance explains is none: with few conversions any AUC is 0.05 off.
        held = None if fallen is None else fallen < FALLEN or (gone[0] is not None and gone[0] <= 0)
        rows.append(
            _row("field_fallen", field["field"], fallen, *gone, FALLEN, held)
            | {"why": f"What a field tells inside training must hold afterwards: AUC at most {FALLEN:g} lower."}
        )
    return rows


def key_rows(found: dict[str, Area | None] | None, keys: list[str]) -> Rows:
    """The row of `keys_only`: how much better than one of keys the model is; none if keys are no fields."""
    if found is None:
        return []
    value, lo, hi = _ends(found["gain"])
    area = found["area"]
    said = f" It reaches {area.value:.4f}." if area else ""
    passed = None if value is None else value > KEYS_GAIN
    why = f"A model of keys alone must stay {KEYS_GAIN:g} of AUC below the model: else it is memory.{said}"
    return [_row("keys_only", " + ".join(keys), value, lo, hi, KEYS_GAIN, passed) | {"why": why}]


def canary_row(areas: list[float]) -> dict[str, Any]:
    """The row of `shuffled_labels`: mean AUC of the models, with its t interval over the shuffles.

    It fails where the whole interval is more than CHANCE from 0.5: the mean alone is off by some chance. The interval
    cannot hide a leak: labels of which half are left in place are learned nearly as well as true ones.
    """
    why = f"Models of shuffled labels must rank like chance: mean AUC not surely more than {CHANCE:g} off 0.5."
    if len(areas) < 2:
        return _row("shuffled_labels", "model", None, None, None, CHANCE, None) | {"why": f"{why} One class only."}
    found = intervals.ratio(np.array(areas), np.ones(len(areas)))
    lo, hi = found.lo, found.hi
    passed = None if lo is None or hi is None else max(lo - 0.5, 0.5 - hi) <= CHANCE
    why += f" {len(areas)} shuffles, standard deviation {np.std(areas, ddof=1):.3f}."
    return _row("shuffled_labels", "model", found.value, lo, hi, CHANCE, passed) | {"why": why}


def _ends(area: Area | None) -> tuple[float | None, float | None, float | None]:
    """Value and 95 % interval of an area, clustered by entity."""
    if area is None:
        return None, None, None
    found = intervals.combined(area.value, [(area.error, area.clusters - 1)] if area.clusters > 1 else [])
    return found.value, found.lo, found.hi


def _row(
    audit: str,
    subject: str,
    value: float | None,
    lo: float | None,
    hi: float | None,
    allowed: float,
    passed: bool | None,
) -> dict[str, Any]:
    named = {"audit": audit, "subject": subject, "value": value, "value_lo": lo, "value_hi": hi}
    return named | {"allowed": allowed, "passed": passed}
