"""Calibration by slice on the test periods, judged over all slices at once, and the search for pairs of slices that are
off.

Whether p is off in a slice is tested over periods (gaps of expected and observed conversions, a t test). The p-values
of all slices of a model with enough rows are adjusted together (Y. Benjamini, Y. Hochberg, "Controlling the False
Discovery Rate", JRSS B 57(1), 1995). A p-value alone is no alarm: the marts ask for a material ratio as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from ffm_udf.slice_sums import GROUPS, pair_sums, slice_sums
from jobs import intervals, row_arrays
from jobs.contract import Contract
from jobs.judged import Judged
from jobs.training_tasks import spans

Rows = list[dict[str, Any]]

FACTS = ("slice_metrics", "slice_discovery")  # that `slice_facts` makes

SEARCH_RATE, CONFIRM_RATE = 0.10, 0.05  # of false discoveries, in each half of the test periods
MATERIAL = (0.8, 1.25)  # a ratio within is no finding, however sure
TASKS = 4  # that share the models: each has to look up the slices of all rows first
AT_MOST = 50  # pairs that are taken to the second half, those with most evidence


def slice_facts(judged: Judged, places: dict[str, int], verdict: str | None = None) -> dict[str, Rows]:
    """Rows of each of FACTS: slices of the models of `places` (model id -> place), pairs of slices of the `verdict`'s
    model, or of every one without it."""
    numbers = judged_periods(judged)
    asked = slice_task(judged) | {"periods": numbers}
    chosen = list(places.values())
    workers = min(len(chosen), TASKS)
    tasks = [judged.task(places=chosen[i::workers], **asked) for i in range(workers)]
    sums = [found for part in judged.run(slice_sums, tasks) for found in part]
    ids = {place: model_id for model_id, place in places.items()}
    min_n = judged.cycle.contract.slice_min_n
    metrics = []
    for place in chosen:
        metrics += slice_rows(ids[place], [found for found in sums if found["place"] == place], min_n)
    searched = [model_id for model_id in places if verdict in (None, model_id)]
    return {"slice_metrics": metrics, "slice_discovery": discovered(judged, searched, places, numbers)}


def judged_periods(judged: Judged) -> list[int]:
    """Numbers of the test periods that have rows, in order."""
    rows = judged.cycle.dataset("label_rates").table().to_pylist()
    return sorted(
        judged.cycle.periods.number(row["period"]) for row in rows if row["split"] == "test" and row["exposures"]
    )


def slice_task(judged: Judged) -> dict[str, Any]:
    """What `slices_of` asks for besides the rows."""
    contract = judged.cycle.contract
    first, last = spans(judged.cycle)["train"]
    training = row_arrays.opened(judged.cycle).span(first, last)
    vocabulary = judged.cycle.dataset("vocabulary").table()
    missing = vocabulary.filter(vocabulary["value"].is_null())
    unknown = dict(zip(missing["field"].to_pylist(), missing["feature_id"].to_pylist(), strict=True))
    return {
        "training": [training.start, training.stop],
        "n_features": vocabulary.num_rows,
        "unknown": {name: int(unknown[name]) for name in contract.field_names},
        "entity_field": contract.prior.entity,
        "candidate_field": contract.prior.candidate_levels[-1],
        "plain_fields": plain_fields(contract),
        "min_count": contract.min_count,
    }


def plain_fields(contract: Contract) -> list[str]:
    """Fields whose value is what the row says, not a count of what was before."""
    return [rule.name for rule in contract.fields if rule.transform != "history"]


def slice_rows(model_id: str, sums: list[dict[str, Any]], min_n: int) -> Rows:
    """Rows of fact `slice_metrics` of one model: its slices with at least `min_n` rows are one family of tests."""
    found = []
    for item in sums:
        for value, entities, by_period in zip(item["values"], item["entities"], item["sums"], strict=True):
            members = by_period[by_period[:, 0] > 0]
            if len(members):
                row = _slice_row(model_id, item["name"], value, members, min_n)
                found.append(row | {"entities": int(entities)})
    family = [row for row in found if row["n"] >= min_n and row["p_value"] is not None]
    if family:
        adjusted = stats.false_discovery_control([row["p_value"] for row in family])
        for row, value in zip(family, adjusted, strict=True):
            row["p_adjusted"] = float(value)
    return found


def _slice_row(model_id: str, name: str, value: str, members: np.ndarray, min_n: int) -> dict[str, Any]:
    n, conversions, sum_p, sum_logloss, variance = members.sum(axis=0).tolist()
    ratio = intervals.calibration(members[:, 2], members[:, 1], variance) if conversions else None
    return {
        "model_id": model_id,
        "slice_type": name,
        "slice_value": value,
        "n": int(n),
        "conversions": int(conversions),
        "sum_p": sum_p,
        "sum_logloss": sum_logloss,
        "calibration_ratio_lo": ratio.lo if ratio else None,
        "calibration_ratio_hi": ratio.hi if ratio else None,
        "n_periods": len(members),
        "p_value": gap_p_value(members[:, 2] - members[:, 1], variance),
        "p_adjusted": None,
        "min_n": min_n,
    }


def gap_p_value(gaps: np.ndarray, variance: float) -> float | None:
    """Two-sided p-value that gaps of periods [B] have mean 0, by a t test; None for one period.

    `variance`: that of the sum of the gaps if rows were independent. The spread over periods counts where it is larger.
    """
    if len(gaps) < 2:
        return None
    error = np.sqrt(intervals.gap_variance(gaps, variance))
    return float(2 * stats.t.sf(abs(gaps.sum()) / error, len(gaps) - 1)) if error > 0 else 1.0


def discovered(judged: Judged, model_ids: list[str], places: dict[str, int], numbers: list[int]) -> Rows:
    """Rows of fact `slice_discovery`; none with fewer than two test periods or two declared slices."""
    middle = len(numbers) // 2
    if not middle or len(judged.cycle.contract.slices) < 2:
        return []
    shared = {"halves": [numbers[:middle], numbers[middle:]], "min_n": judged.cycle.contract.slice_min_n}
    tasks = [judged.task(place=places[model_id], **shared) for model_id in model_ids]
    found = judged.run(pair_sums, tasks)
    return [row for i, pairs in zip(model_ids, found, strict=True) for row in discoveries(i, **pairs)]


def discoveries(model_id: str, names: list[tuple[str, str]], sums: np.ndarray) -> Rows:
    """Rows of fact `slice_discovery` of one model: the pairs of slices that the first half of the test periods says are
    off, and whether the second half confirms it.

    The search adjusts over all pairs at SEARCH_RATE and asks for a material ratio; the confirmation adjusts over what
    was found, at CONFIRM_RATE, and asks for the same side.
    """
    if not names:
        return []
    ratio = sums[:, :, 2] / np.where(sums[:, :, 1] > 0, sums[:, :, 1], np.nan)
    error = np.sqrt(np.maximum(sums[:, :, 4], 1e-300))
    p = 2 * stats.t.sf(np.abs(sums[:, :, 3]) / error, GROUPS - 1)
    in_search = stats.false_discovery_control(p[:, 0])
    # Without a conversion the ratio is infinite, which is material as well.
    is_material = ~((ratio[:, 0] >= MATERIAL[0]) & (ratio[:, 0] <= MATERIAL[1]))
    chosen = np.flatnonzero((in_search <= SEARCH_RATE) & is_material)
    chosen = chosen[np.argsort(p[chosen, 0], kind="stable")][:AT_MOST]
    if not len(chosen):
        return []
    in_confirm = stats.false_discovery_control(p[chosen, 1])
    found = []
    for place, adjusted in zip(chosen.tolist(), in_confirm.tolist(), strict=True):
        same_side = sums[place, 0, 3] * sums[place, 1, 3] > 0
        row: dict[str, Any] = {"model_id": model_id, "slice_a": names[place][0], "slice_b": names[place][1]}
        for half, name in enumerate(("search", "confirm")):
            n, conversions, sum_p = sums[place, half, :3].tolist()
            row |= {f"{name}_n": int(n), f"{name}_conversions": int(conversions), f"{name}_sum_p": sum_p}
        row |= {"search_p_adjusted": float(in_search[place]), "confirm_p_adjusted": adjusted}
        found.append(row | {"is_confirmed": bool(same_side and adjusted <= CONFIRM_RATE), "n_searched": len(names)})
    return found
