"""Domain shift: can a model tell the test rows from those it was trained on, and which field gives it away?

Every ad-week has ads of its own, so any two sets of periods can be told apart. What time adds is therefore judged
against a reference without time: every second of the same number of training periods against those between. Rows of
tonight's pairs are not compared: they are all pairs, where the others are pairs that were exposed, which any model
tells apart.
"""

from __future__ import annotations

from typing import Any

from ffm_udf.domain_shift import separation
from jobs import row_arrays
from jobs.fairness import area_ends
from jobs.judged import Judged
from jobs.training_tasks import spans

Rows = list[dict[str, Any]]


def domain_shift_facts(rows: Judged) -> dict[str, Rows]:
    """Rows of fact `domain_shift`; a comparison without rows on either side is left out."""
    cycle = rows.cycle
    numbers, ends = sorted(row_arrays.opened(cycle).periods), spans(cycle)
    contract = cycle.contract
    asked = comparisons(
        [n for n in numbers if ends["train"][0] <= n <= ends["train"][1]],
        [n for n in numbers if ends["test"][0] <= n <= ends["test"][1]],
    )
    shared = {
        "rows": str(cycle.dataset("rows").root),
        "entity_column": contract.field_names.index(contract.prior.entity),
        "n_features": cycle.dataset("vocabulary").rows,
        "seed": contract.grid.shipping_seed,
    }
    tasks = [shared | {"periods": late, "others": early} for late, early in asked.values()]
    found = []
    for name, rows_of in zip(asked, rows.run(separation, tasks), strict=True):
        late, early = asked[name]
        for row in rows_of:
            value, lo, hi = area_ends(row["area"])
            found.append(
                {"comparison": name, "field": row["field"], "auc": value, "auc_lo": lo, "auc_hi": hi, "n": row["n"]}
                | {"periods": len(late), "reference_periods": len(early)}
            )
    return {"domain_shift": found}


def comparisons(training: list[int], test: list[int]) -> dict[str, tuple[list[int], list[int]]]:
    """Periods against periods: `test`, against as many that training ended with; `alternate`, the reference, every
    second of the last training periods against those between; `adjacent`, the last test period against the one before.
    """
    size = min(len(test), len(training) // 2)
    last = training[-2 * size :]
    found = {"test": (test[-size:], training[-size:]), "alternate": (last[1::2], last[::2])} if size else {}
    if len(test) > 1:
        found["adjacent"] = ([test[-1]], [test[-2]])
    return found
