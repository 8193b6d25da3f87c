"""Fairness audit of the groups that the contract declares (`fairness`: names of slices), on the test rows.

Is p right in every group, who is contacted, how well is each group ranked, and how far do other fields give the group
away? An audit of these numbers, no certificate: it says nothing of groups that were not declared or not recorded, nor
of what is done with the scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ffm_udf.clustered_auc import Area
from ffm_udf.group_sums import group_sums
from jobs import intervals
from jobs.contract import Contract
from jobs.judged import Judged
from jobs.proxy_audit import guess_groups

Rows = list[dict[str, Any]]


def fairness_facts(rows: Judged, place: int, top_n: int) -> dict[str, Rows]:
    """Rows of the facts `fairness` and `fairness_proxy` for the model at `place`; both empty where the contract
    declares no groups. `top_n`: entities that count as contacted per candidate and period (a stand-in where
    the target has another kind of budget: `Value.budget_top_n`)."""
    contract = rows.cycle.contract
    if not contract.fairness:
        return {"fairness": [], "fairness_proxy": []}
    fields, seed = contract.field_names, contract.grid.shipping_seed
    tasks = [rows.task(attribute=name, seed=seed, columns=proxy_columns(contract, name)) for name in contract.fairness]
    tasks.append(rows.task(attributes=list(contract.fairness), place=place, top_n=top_n))
    *guesses, groups = rows.run(measured, tasks)
    about = {"model_id": rows.ids[place], "top_n": top_n, "min_n": contract.slice_min_n}
    proxies = [
        {"model_id": rows.ids[place], **row, "fields": len(task["columns"]), "all_fields": len(fields)}
        for task, guess in zip(tasks, guesses, strict=False)
        for row in proxy_rows(guess)
    ]
    return {"fairness": [about | group_row(found) for found in groups], "fairness_proxy": proxies}


def measured(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The groups of a task: guessed where it names one attribute, summed where it names all."""
    return guess_groups(task) if "attribute" in task else group_sums(task)


def proxy_columns(contract: Contract, attribute: str) -> list[int]:
    """Columns of X that may guess the groups of a slice: not the entity's key, nor fields of the slice's own column."""
    [own] = [item.column for item in contract.slices if item.name == attribute]
    keys = {rule.name for rule in contract.fields if set(rule.columns) == set(contract.entity) and not rule.of}
    barred = keys | {rule.name for rule in contract.fields if own in rule.columns}
    return [at for at, name in enumerate(contract.field_names) if name not in barred]


def group_row(found: dict[str, Any]) -> dict[str, Any]:
    """A row of fact `fairness` but for the model: sums, and the calibration ratio with both intervals."""
    members = found["sums"][found["sums"][:, 0] > 0]
    n, conversions, sum_p = members.sum(axis=0).tolist()
    ratio = intervals.calibration(members[:, 2], members[:, 1]) if conversions else None
    error, entities = found["ratio_error"], found["entities"]
    by_entity = intervals.combined(ratio.value, [(error, entities - 1)]) if ratio and error is not None else None
    area, lo, hi = area_ends(found["area"])
    return {
        "attribute": found["attribute"],
        "group_value": found["group"],
        "entities": entities,
        "n": int(n),
        "conversions": int(conversions),
        "sum_p": sum_p,
        "calibration_ratio_lo": ratio.lo if ratio else None,
        "calibration_ratio_hi": ratio.hi if ratio else None,
        "calibration_ratio_lo_entity": max(by_entity.lo, 0.0) if by_entity and by_entity.lo is not None else None,
        "calibration_ratio_hi_entity": by_entity.hi if by_entity else None,
        "auc": area,
        "auc_lo": lo,
        "auc_hi": hi,
        "contacted": found["contacted"],
        "captured": found["captured"],
    }


def proxy_rows(guess: list[dict[str, Any]]) -> Rows:
    """Rows of fact `fairness_proxy` of one attribute but for the model, each with the mean of the recalls."""
    balanced = float(np.mean([row["recall"] for row in guess])) if guess else None
    found = []
    for row in guess:
        area, lo, hi = area_ends(row["area"])
        same = {name: row[name] for name in ("attribute", "entities", "recall")}
        found.append(
            {**same, "group_value": row["group"], "auc": area, "auc_lo": lo, "auc_hi": hi}
            | {"balanced_accuracy": balanced, "groups": len(guess)}
        )
    return found


def area_ends(area: Area | None) -> tuple[float | None, float | None, float | None]:
    """Value and 95 % t interval of an AUC over its clusters; cut to 0 to 1, which no AUC can leave."""
    if area is None:
        return None, None, None
    found = intervals.combined(area.value, [(area.error, area.clusters - 1)] if area.clusters > 1 else [])
    if found.lo is None or found.hi is None:
        return found.value, None, None
    return found.value, max(found.lo, 0.0), min(found.hi, 1.0)
