"""A published score taken apart: the terms of an FFM's logit, by field and by pair of fields. They sum to it exactly.

The pair's features are read from the inputs that the scoring job used, so what is explained is what was scored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from ffm_udf import block_inputs
from ffm_udf.block_inputs import Layout
from ffm_udf.model import FFM
from jobs import history, models
from jobs.cycle import Cycle
from jobs.lake import LakeError


class ExplainError(ValueError):
    """A score that does not exist or cannot be taken apart; the message says why."""


@dataclass(frozen=True)
class Explained:
    """A score and its terms, largest first: field, value, other field and its value or None, part of the logit."""

    row: dict[str, Any]  # of the fact `scores`
    bias: float
    logit: float
    terms: list[tuple[str, str, str | None, str | None, float]]


def run(cycle: Cycle, entity_id: str, candidate_id: str | None) -> Explained:
    """Explain the score of a pair, by default that of the entity's best candidate. Raises ExplainError if the cycle has
    no such score or another model than an FFM made it, LakeError if nothing was scored."""
    row = _score(cycle, entity_id, candidate_id)
    card = models.read_card(cycle.warehouse, row["model_id"])
    if row["source"] != "model" or card["algorithm"] != "ffm":
        made_by = row["source"] if row["source"] != "model" else card["algorithm"]
        raise ExplainError(
            f"the score of {entity_id} and {row['candidate_id']} was made by {made_by}, which has no terms"
        )
    vocabulary = cycle.lake.get("vocabulary", card["lineage"]["vocabulary"]["key"]).table().to_pylist()
    x = features(str(cycle.dataset("score_inputs").root), entity_id, row)
    found = FFM.load(models.model_folder(cycle.warehouse, row["model_id"])).explain(x)
    measures = {rule.name: rule.measure for rule in cycle.contract.fields}
    text = {r["feature_id"]: in_words(measures[r["field"]], r["value"]) for r in vocabulary}
    names = card["fields"]

    def of(f: int) -> tuple[str, str]:
        return names[f], text[int(x[f])]

    terms = [(*of(f), None, None, float(found.linear[f])) for f in range(len(names))]
    terms += [(*of(f), *of(g), float(found.pairs[f, g])) for f in range(len(names)) for g in range(f + 1, len(names))]
    return Explained(row, found.bias, found.logit, sorted(terms, key=lambda term: -abs(term[-1])))


def in_words(measure: str | None, value: str | None) -> str:
    """A value of the vocabulary for people."""
    if value is None:
        return "(rare or new)"
    return history.in_words(measure, int(value)) if measure else value


def _score(cycle: Cycle, entity_id: str, candidate_id: str | None) -> dict[str, Any]:
    rows = pl.scan_parquet(cycle.dataset("scores").files).filter(pl.col("entity_id") == entity_id)
    wanted = pl.col("rank_in_entity") == 1 if candidate_id is None else pl.col("candidate_id") == candidate_id
    found = rows.filter(wanted).collect().to_dicts()
    if not found:
        pair = f"entity {entity_id}" if candidate_id is None else f"entity {entity_id} and candidate {candidate_id}"
        raise ExplainError(f"{cycle.contract.name} {cycle.date} has no score of {pair}")
    return found[0]


def features(inputs: str, entity_id: str, row: dict[str, Any]) -> np.ndarray:
    """Feature ids int32 [n_fields] of the pair of a row of `scores`, from the folder of the score_inputs.

    Raises LakeError if the inputs are not those of these scores.
    """
    of = block_inputs.layout(inputs)
    offers = block_inputs.offers(inputs)
    here = offers.of_match.get(row["match_id"], slice(0, 0))
    ids = offers.candidate_id[here.start : here.stop].to_pylist()
    for folder in sorted(Path(inputs).glob("block=*")):
        entities = pq.ParquetFile(next((folder / "entities").glob("*.parquet"))).read(["entity_id", "match_id"])
        place = pc.index(entities["entity_id"], entity_id).as_py()
        if place >= 0 and row["candidate_id"] in ids:
            at = here.start + ids.index(row["candidate_id"])
            return _assembled(of, block_inputs.block(inputs, int(folder.name[6:]), of), offers, place, at)
    raise LakeError(f"score_inputs do not hold {entity_id} and {row['candidate_id']}: run `fieldmart score` first")


def _assembled(of: Layout, block: Any, offers: Any, entity: int, candidate: int) -> np.ndarray:
    x = np.empty(of.sides.n_fields, np.int32)
    x[list(of.sides.entity)] = block.X[entity]
    x[list(of.sides.candidate)] = offers.X[candidate]
    for p, field in enumerate(of.sides.pair):
        mine = slice(block.indptr[p, entity], block.indptr[p, entity + 1])
        hit = np.flatnonzero(block.key[mine] == offers.keys[candidate, p])
        x[field] = block.feature[mine][hit[0]] if len(hit) else of.default[p]
    return x


def show(found: Explained, console: Console, top: int) -> None:
    """Print the score, its parts and the `top` largest terms."""
    row, rest = found.row, sum(term[-1] for term in found.terms[top:])
    console.print(
        f"p = {row['p']:.6f} of {row['entity_id']} and {row['candidate_id']} (model {row['model_id']}, "
        f"calibrator {row['calibrator_id']}, raw score {row['raw_score']:+.6f})",
        soft_wrap=True,
    )
    table = Table(title=f"terms of the raw score, the {min(top, len(found.terms))} largest of {len(found.terms)}")
    for name in ("field", "value", "with field", "value", "term"):
        table.add_column(name, justify="right" if name == "term" else "left")
    for field, value, other, with_value, term in found.terms[:top]:
        table.add_row(field, value, other or "", with_value or "", f"{term:+.5f}")
    table.add_row("all other terms", "", "", "", f"{rest:+.5f}")
    table.add_row("bias", "", "", "", f"{found.bias:+.5f}")
    table.add_row("raw score", "", "", "", f"{found.logit:+.5f}")
    console.print(table)


def as_json(found: Explained) -> str:
    """The same for programs, all terms."""
    names = ("field", "value", "with_field", "with_value", "term")
    said = {name: found.row[name] for name in ("entity_id", "candidate_id", "model_id", "calibrator_id")}
    said |= {"p": float(found.row["p"]), "raw_score": float(found.row["raw_score"])}
    said |= {"bias": found.bias, "logit": found.logit}
    return json.dumps(said | {"terms": [dict(zip(names, term, strict=True)) for term in found.terms]}, indent=1)
