"""Feature ids by field and value, as a vocabulary file has them."""

from __future__ import annotations

import numpy as np


def ids(path: str) -> dict[tuple[str, str | None], int]:
    """Feature id by field and value of a vocabulary file; the value None is the field's OOV feature."""
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path).read(["field", "value", "feature_id"], use_threads=False)
    columns = (table[name].to_pylist() for name in ("field", "value", "feature_id"))
    return {(field, value): feature for field, value, feature in zip(*columns, strict=True)}


def translation(mine: str, theirs: str) -> np.ndarray:
    """For every feature id of the vocabulary in file `mine`, the id of the same value in that of `theirs`, or there the
    field's OOV feature: int32."""
    known, own = ids(theirs), ids(mine)
    found = np.empty(len(own), np.int32)
    for (field, value), feature in own.items():
        found[feature] = known.get((field, value), known[field, None])
    return found
