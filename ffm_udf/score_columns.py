"""The columns of scored pairs as Arrow tables. Texts are dictionaries: a million rows of one model id cost nothing."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Constants:
    """What is the same for every pair of a run."""

    model_id: str
    calibrator_id: str
    score_date: dt.date
    scored_at: dt.datetime
    data_through: dt.datetime
    source: str

    @classmethod
    def of(cls, values: dict[str, Any]) -> Constants:
        """From a task's values, dates as ISO texts."""
        return cls(
            values["model_id"],
            values["calibrator_id"],
            dt.date.fromisoformat(values["score_date"]),
            dt.datetime.fromisoformat(values["scored_at"]),
            dt.datetime.fromisoformat(values["data_through"]),
            values["source"],
        )


@dataclass(frozen=True)
class Pairs:
    """Scored pairs: places in the lists of entity and candidate ids, the common match, and the values, all of length n.

    p, raw float32; unknown int8, the number of fields without a known value; falls_back bool: not scored by the model.
    """

    entity: np.ndarray
    candidate: np.ndarray
    match: str
    p: np.ndarray
    raw: np.ndarray
    unknown: np.ndarray
    falls_back: np.ndarray


def pair_table(
    entity_id: pa.Array,
    candidate_id: pa.Array,
    pairs: Pairs,
    n_fields: int,
    constants: Constants,
    ranks: dict[str, np.ndarray],
) -> pa.Table:
    """The rows of the facts `scores` (ranks: rank_in_entity) and `top_scores` of these pairs; ranks int32 [n]."""
    n = len(pairs.p)
    shares = pa.array(np.arange(n_fields + 1, dtype=np.float32) / np.float32(n_fields))
    sources = pa.array([constants.source, "prior"])
    columns = {
        "entity_id": pa.DictionaryArray.from_arrays(pa.array(pairs.entity, pa.int32()), entity_id),
        "candidate_id": pa.DictionaryArray.from_arrays(pa.array(pairs.candidate, pa.int32()), candidate_id),
        "match_id": _same(pa.array([pairs.match]), n),
        "p": pa.array(pairs.p),
        "raw_score": pa.array(pairs.raw),
        **{name: pa.array(values, pa.int32()) for name, values in ranks.items()},
        "oov_share": pa.DictionaryArray.from_arrays(pa.array(pairs.unknown), shares),
        "model_id": _same(pa.array([constants.model_id]), n),
        "calibrator_id": _same(pa.array([constants.calibrator_id]), n),
        "score_date": pa.repeat(pa.scalar(constants.score_date, pa.date32()), n),
        "scored_at": pa.repeat(pa.scalar(constants.scored_at, pa.timestamp("us")), n),
        "data_through": pa.repeat(pa.scalar(constants.data_through, pa.timestamp("us")), n),
        "source": pa.DictionaryArray.from_arrays(pa.array(pairs.falls_back.astype(np.int8)), sources),
    }
    return pa.table(columns)


def _same(value: pa.Array, n: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int8)), value)
