"""Facts of a tiny night's scoring: thirty households, twenty families in two stores, every pair scored.

What is said of entities, candidates and blocks is summed from the scores.
"""

from __future__ import annotations

import datetime as dt
import math
import statistics

import numpy as np
from fake_training import CYCLE, Rows

DATA_THROUGH = dt.datetime(2017, 12, 25)
SCORED = dt.datetime(2026, 11, 21, 2, 1)
HOUSEHOLDS = {f"h{i:02d}": f"store-{i % 2}" for i in range(30)}
ON_OFFER = {
    "store-0": [f"family-{j:02d}" for j in range(15)],
    "store-1": [f"family-{j:02d}" for j in range(5, 20)],
}
BLOCKS = 4
TOP_N = 10


def night(model_id: str, has_shadow: bool = False) -> dict[str, Rows]:
    """All facts of `score`, of a champion that passed its audits; has_shadow: `older` scored the same pairs."""
    scored = _scored(model_id)
    entities = [
        {"entity_id": entity, "match_id": store, "candidates": len(ON_OFFER[store])}
        for entity, store in HOUSEHOLDS.items()
    ]
    offered = [
        {"candidate_id": candidate, "match_id": store, "label": candidate.replace("-", " ")}
        for store, candidates in ON_OFFER.items()
        for candidate in candidates
    ]
    blocks = _blocks(scored)
    return {
        "scores": [{name: row[name] for name in row if name != "rank_in_candidate"} for row in scored],
        "top_scores": _top(scored),
        "score_entities": _entities(scored),
        "score_candidates": _candidates(scored),
        "candidates": offered,
        "entities": entities,
        "score_blocks": blocks,
        "score_audits": _audits(model_id),
        "scoring": [_scoring(model_id, scored, blocks, has_shadow)],
        "shadow_comparison": _shadow(model_id, scored) if has_shadow else [],
    }


def stale(facts: dict[str, Rows], reason: str) -> dict[str, Rows]:
    """What `night` becomes where tonight's scores were refused and those of the week before are served."""
    week = dt.timedelta(weeks=1)
    old = {"score_date": CYCLE - week, "data_through": DATA_THROUGH - week, "scored_at": SCORED - week}
    served = {name: [row | old | {"source": "stale"} for row in facts[name]] for name in ("scores", "top_scores")}
    refused = [row | {"passed": False, "value": 0.5} for row in facts["score_audits"] if row["audit"] == "psi"]
    passed = [row for row in facts["score_audits"] if row["audit"] != "psi"]
    told = {"source": "stale", "reason": reason, "is_degraded": True}
    return facts | served | {"score_audits": passed + refused, "scoring": [facts["scoring"][0] | old | told]}


def _scored(model_id: str) -> Rows:
    """Every pair with both ranks."""
    rng = np.random.default_rng(11)
    rows: Rows = []
    for entity, store in HOUSEHOLDS.items():
        for candidate in ON_OFFER[store]:
            logit = np.float32(rng.normal(-3, 1))
            unknown = 7 if len(rows) % 40 == 0 else 4 if len(rows) % 11 == 0 else 1 if len(rows) % 3 == 0 else 0
            rows.append(
                {"entity_id": entity, "candidate_id": candidate, "match_id": store}
                | {"p": float(np.float32(1 / (1 + math.exp(-logit)))), "raw_score": float(logit)}
                | {"oov_share": float(np.float32(unknown / 20)), "model_id": model_id, "calibrator_id": "platt-1"}
                | {"score_date": CYCLE, "scored_at": SCORED, "data_through": DATA_THROUGH, "source": "model"}
            )
    for key, rank in (("entity_id", "rank_in_entity"), ("candidate_id", "rank_in_candidate")):
        places: dict[str, int] = {}
        for row in sorted(rows, key=lambda row: -row["raw_score"]):
            places[row[key]] = places.get(row[key], 0) + 1
            row[rank] = places[row[key]]
    return rows


def _top(scored: Rows) -> Rows:
    ranks = ("rank_in_entity", "rank_in_candidate")
    cut = [row | {rank: row[rank] if row[rank] <= TOP_N else None for rank in ranks} for row in scored]
    return [row for row in cut if any(row[rank] for rank in ranks)]


def _entities(scored: Rows) -> Rows:
    found = []
    for entity, store in HOUSEHOLDS.items():
        mine = [row for row in scored if row["entity_id"] == entity]
        best = next(row["candidate_id"] for row in mine if row["rank_in_entity"] == 1)
        found.append(
            {"entity_id": entity, "match_id": store, "candidates": len(mine), "sum_p": sum(row["p"] for row in mine)}
            | {"min_p": min(row["p"] for row in mine), "max_p": max(row["p"] for row in mine)}
            | {"best_candidate_id": best, "sum_oov_share": sum(row["oov_share"] for row in mine)}
        )
    return found


def _candidates(scored: Rows) -> Rows:
    found = []
    for candidate in sorted({row["candidate_id"] for row in scored}):
        p = [row["p"] for row in scored if row["candidate_id"] == candidate]
        found.append({"candidate_id": candidate, "entities": len(p), "sum_p": sum(p), "max_p": max(p)})
    return found


def _blocks(scored: Rows) -> Rows:
    """Scoring takes 0.5 s of 1.1, and 1 s of 1.6 in the last block; two workers have two blocks each."""
    found = []
    for block in range(BLOCKS):
        mine = [row for row in scored if int(row["entity_id"][1:]) % BLOCKS == block]
        score_s = 1.0 if block == BLOCKS - 1 else 0.5
        found.append(
            {"block": block, "entities": len({row["entity_id"] for row in mine}), "pairs": len(mine), "read_s": 0.1}
            | {"prepare_s": 0.2, "score_s": score_s, "rank_s": 0.05, "write_s": 0.15, "wall_s": score_s + 0.6}
            | {"cpu_s": score_s + 0.3, "jit_s": 0.25 * (block % 2 == 0), "peak_rss_mib": 300.0 + block}
            | {"bytes_written": 4_000 + block, "worker": f"{100 + block // 2}@here", "model_loads": 1}
            | {"is_resumed": block == 0}
        )
    return found


def _audits(model_id: str) -> Rows:
    audits = [
        ("missing_scores", 0.0, 0.0, 0.0, "Every entity has a score for each of its candidates."),
        ("not_a_number", 0.0, 0.0, 0.0, "One NaN spoils every sum."),
        ("mean_p_to_matured_rate", 1.1, 0.33, 3.0, "Outside the band a unit, a join or the calibrator is broken."),
        ("share_of_known_slices", 1.0, 0.95, None, "A key slice that vanishes is a broken join."),
        ("psi", None, None, 0.25, "Scores that jump from one release to the next need a look; no release came before."),
    ]
    names = ("audit", "value", "low", "high", "why")
    same = {"attempt": 1, "model_id": model_id, "source": "model", "passed": True}
    return [dict(zip(names, audit, strict=True)) | same for audit in audits]


def _scoring(model_id: str, scored: Rows, blocks: Rows, has_shadow: bool) -> dict:
    walls = [block["wall_s"] for block in blocks]
    return (
        {"model_id": model_id, "calibrator_id": "platt-1", "source": "model", "reason": "", "is_degraded": False}
        | {"requested_model_id": model_id, "score_date": CYCLE, "scored_at": SCORED, "data_through": DATA_THROUGH}
        | {"engine": "all_pairs", "entities": len(HOUSEHOLDS), "candidates": 20, "pairs": len(scored)}
        | {"blocks": len(blocks), "wall_s": 3.0, "cpu_s": 4.5, "peak_rss_mib": 303.0}
        | {"skew": max(walls) / statistics.median(walls), "scores_sha256": "5c" * 32}
        | {"shadow_model_id": "older" if has_shadow else None}
    )


def _shadow(model_id: str, scored: Rows) -> Rows:
    """The shadow's p is 1.2 times the serving one, whatever the pair."""
    ordered = sorted(row["p"] for row in scored)
    tenth = len(ordered) // 10
    deciles = [(i + 1, ordered[i * tenth : (i + 1) * tenth]) for i in range(10)]
    found: Rows = []
    for decile, p in [(None, ordered), *deciles]:
        mean = sum(p) / len(p)
        found.append(
            {"model_id": model_id, "shadow_model_id": "older", "scope": "decile" if decile else "all"}
            | {"decile": decile, "pairs": len(p), "mean_p": mean, "mean_p_shadow": 1.2 * mean, "correlation": 0.93}
            | {"mean_abs_difference": 0.2 * mean, "top_n_overlap": None if decile else 0.85}
        )
    return found
