"""Which fields, alone and in pairs, make an FFM's scores differ: exact shares of the variance of its logits on the test
rows (ffm_udf/field_pairs.py)."""

from __future__ import annotations

from typing import Any

from ffm_udf.field_pairs import of_model
from jobs import models
from jobs.judged import Judged

ROWS = 200_000  # test rows at most, drawn with the seed that ships


def field_pairs_facts(rows: Judged, model_ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Rows of fact `field_pairs` for the FFM candidates `model_ids`, as their rehearsals score the test rows."""
    cycle = rows.cycle
    known = cycle.dataset("models").table().to_pylist()
    rehearsals = {row["candidate_id"]: row["model_id"] for row in known if row["role"] == "rehearsal"}
    ks = {row["model_id"]: row["k"] for row in known if row["algorithm"] == "ffm"}
    chosen = [model_id for model_id in model_ids if model_id in ks]
    tasks = [
        rows.task(folder=str(models.model_folder(cycle.warehouse, rehearsals[model_id]).resolve()))
        | {"limit": ROWS, "seed": cycle.contract.grid.shipping_seed}
        for model_id in chosen
    ]
    found = zip(chosen, rows.run(of_model, tasks), strict=True)
    return {"field_pairs": [{"model_id": i, "k": ks[i], **row} for i, mine in found for row in mine]}
