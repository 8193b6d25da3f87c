"""How the calibrated p of past periods is distributed, in quantiles that were frozen on the calib rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffm_udf.predictions import opened


def of_model(task: dict[str, Any]) -> tuple[list[float], list[dict[str, Any]]]:
    """The inner edges of `bins` quantiles of calib, and rows per bin of all of calib (period_no None) and of each test
    period, of the model at `place`.

    `task`: folders judged and predictions, place, bins.
    """
    rows, predictions = opened(task)
    calib = predictions.p(task["place"], rows.splits["calib"])
    edges = np.unique(np.quantile(calib, np.arange(1, task["bins"]) / task["bins"]))
    spans: list[tuple[int | None, slice]] = [(None, rows.splits["calib"])]
    spans += [(number, rows.periods[number]) for number in rows.periods_of("test")]
    found = []
    for number, span in spans:
        n = np.bincount(np.searchsorted(edges, predictions.p(task["place"], span), side="right"))
        found += [{"period_no": number, "bin": at, "n": int(n[at])} for at in np.flatnonzero(n).tolist()]
    return edges.tolist(), found
