"""A pool whose periods are alike: its rows dealt to periods at random, so that only chance and the shift of each draw
tell them apart.

In the pool as it is, campaigns start and end, and what one model gains over another can come from a few of the periods.
An interval over nine of them then covers less than it says, by any formula; over dealt periods only the formula counts.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from jobs.truth_models import Stored
from jobs.truth_world import Rows


def dealt(stored: Stored, seed: int) -> Stored:
    """The same rows with the same predictions and rates, in periods of the same sizes, by chance."""
    order = np.random.default_rng(seed).permutation(len(stored.rows))
    arrays = {field.name: getattr(stored.rows, field.name) for field in fields(Rows) if field.name != "columns"}
    rows = Rows(
        **{name: values[order] for name, values in arrays.items() if name != "period"},
        period=stored.rows.period,
        columns={name: values[order] for name, values in stored.rows.columns.items()},
    )
    return replace(
        stored,
        rows=rows,
        seen={name: values[order] for name, values in stored.seen.items()},
        p={model: values[order] for model, values in stored.p.items()},
    )
