"""The columns of scored pairs as Arrow tables. Texts are dictionaries: a million rows of one model id cost nothing."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
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
class Ids:
    """The texts that pairs point to by their place: of a block's entities, all candidates, and the matches. match int32
    [entities] is ascending."""

    entity: pa.Array
    candidate: pa.Array
    match: pa.Array
    match_of_entity: np.ndarray


@dataclass
class PairRows:
    """Scored pairs that wait to be written: every match on its own would make tables, and row groups, of a few rows.

    Columns, each a list of arrays of one length: entity, candidate int32 (places in `ids`), p, raw_score float32,
    unknown int8 (fields without a known value), falls_back bool (not scored by the model), and ranks int32.
    """

    ids: Ids
    n_fields: int
    constants: Constants
    rows: int = 0
    waiting: list[dict[str, np.ndarray]] = field(default_factory=list)

    def add(self, columns: dict[str, np.ndarray]) -> None:
        self.waiting.append(columns)
        self.rows += len(columns["entity"])

    def take(self) -> pa.Table:
        """All that waits, as rows of the facts `scores` or `top_scores`; nothing waits afterwards."""
        found = {name: np.concatenate([part[name] for part in self.waiting]) for name in self.waiting[0]}
        self.rows, self.waiting = 0, []
        n, constants, entity = len(found["entity"]), self.constants, found["entity"]
        shares = pa.array(np.arange(self.n_fields + 1, dtype=np.float32) / np.float32(self.n_fields))
        sources = pa.array([constants.source, "prior"])
        ranks = {name: pa.array(values) for name, values in found.items() if name.startswith("rank_")}
        columns = {
            "entity_id": _texts(self.ids.entity, entity),
            "candidate_id": _texts(self.ids.candidate, found["candidate"]),
            "match_id": _texts(self.ids.match, self.ids.match_of_entity[entity]),
            "p": pa.array(found["p"]),
            "raw_score": pa.array(found["raw_score"]),
            **ranks,
            "oov_share": pa.DictionaryArray.from_arrays(pa.array(found["unknown"]), shares),
            "model_id": _same(constants.model_id, n),
            "calibrator_id": _same(constants.calibrator_id, n),
            "score_date": pa.repeat(pa.scalar(constants.score_date, pa.date32()), n),
            "scored_at": pa.repeat(pa.scalar(constants.scored_at, pa.timestamp("us")), n),
            "data_through": pa.repeat(pa.scalar(constants.data_through, pa.timestamp("us")), n),
            "source": pa.DictionaryArray.from_arrays(pa.array(found["falls_back"].astype(np.int8)), sources),
        }
        return pa.table(columns)


def _texts(ids: pa.Array, places: np.ndarray) -> pa.DictionaryArray:
    """Texts by place. The dictionary is only the stretch of ids that occurs: a row group carries all of it."""
    low, high = (int(places.min()), int(places.max())) if len(places) else (0, -1)
    return pa.DictionaryArray.from_arrays(pa.array((places - low).astype(np.int32)), ids.slice(low, high - low + 1))


def _same(value: str, n: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int8)), pa.array([value]))
