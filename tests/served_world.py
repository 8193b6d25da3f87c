"""Releases with scores in the lake and decisions behind them, without Spark and dbt: for guard, as-of and heal."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from jobs import champions, decision_log, releases, served_links
from jobs.gate import Evaluation
from jobs.lake import Lake
from jobs.release_audits import Audit

CONTRACT = "tiny"
GOOD = [Audit("lowest_p", 0.01, ">", 0.0, True, "a probability")]
ENTITIES, CANDIDATES = 300, 8
MONDAY = dt.date(2017, 12, 4)
LIVE = [
    {"name": "ranks", "severity": "hard", "mart": "fct_release_comparison", "metric": "rank_correlation"}
    | {"operator": ">=", "threshold": 0.4, "why": "Order.", "on_breach": "another order."},
    {"name": "level", "severity": "soft", "mart": "fct_release_comparison", "metric": "mean_p_ratio"}
    | {"operator": "<=", "threshold": 1.2, "why": "Level."},
    {"name": "logloss", "severity": "hard", "blames": "model", "mart": "fct_live_performance", "metric": "max(excess)"}
    | {"operator": "<=", "threshold": 0, "why": "Outcomes."},
]
RULE = {"name": "auc", "severity": "hard", "mart": "fct_k", "metric": "max(v)", "operator": ">=", "threshold": 0}
VERDICT = {"mart": "fct_k", "where": "true", "k": "k", "model_id": "model_id"}


def day(week: int) -> dt.date:
    return MONDAY + dt.timedelta(weeks=week)


def gate_file(folder: Path, live: list[dict[str, Any]] | None = None) -> Path:
    """A gate with these live rules."""
    gate = {"margin_relative_logloss": 0.001, "margin_relative_cost": 0.1, "verdict": VERDICT, "approvers": ["ann"]}
    gate["rules"] = [RULE | {"why": "Ranks.", "on_missing": "missing_quality_evidence"}]
    path = folder / "gate.yml"
    path.write_text(yaml.safe_dump(gate | {"live": LIVE if live is None else live}))
    return path


def decided(warehouse: Path, week: int, model_id: str, verdict: str = "GO", evidence: str = "") -> decision_log.Entry:
    """The decision on the cycle of `week`."""
    made = Evaluation(verdict, verdict, 2, model_id, (), "gate", evidence or f"evidence {week}")  # ty: ignore
    return decision_log.append_decision(warehouse, CONTRACT, day(week), made)


def logits(seed: int = 0) -> np.ndarray:
    """(ENTITIES, CANDIDATES): one world; other seeds are other worlds, which rank the pairs in another order."""
    rng = np.random.default_rng(seed)
    return -3 + rng.normal(0, 1, (ENTITIES, 1)) + rng.normal(0, 1, (1, CANDIDATES))


def published(
    warehouse: Path,
    week: int,
    model_id: str,
    scores: np.ndarray,
    decision_id: str = "d",
    excess: float | None = None,
    contract: str = CONTRACT,
) -> releases.Release:
    """The release of `week` by `model_id`; `excess` is what a mart says of realised logloss, None: there is no such
    mart."""
    lake, key = Lake(warehouse), f"{week}-{model_id}"
    pairs = [(f"e{i}", f"c{j}") for i in range(ENTITIES) for j in range(CANDIDATES)]
    flat = scores.ravel()
    if lake.find("scores", key) is None:
        with lake.writing("scores", key, {}, None) as folder:
            ids = {"entity_id": [e for e, _ in pairs], "candidate_id": [c for _, c in pairs]}
            pq.write_table(pa.table(ids | {"p": 1 / (1 + np.exp(-flat)), "raw_score": flat}), folder / "part-0.parquet")
    name = f"{contract}-{day(week)}"
    building = releases.open_building(warehouse, name)
    with duckdb.connect(str(building.folder / releases.MART)) as mart:
        mart.execute(f"create table fct_k as select 2 as k, 0.9 as v, '{model_id}' as model_id")
        if excess is not None:
            mart.execute(f"create table fct_live_performance as select {excess}::double as excess")
    manifest = {
        "contract": contract,
        "cycle_date": str(day(week)),
        "content_sha256": f"{key} {float(flat.sum())} {excess}",
        "decision_id": decision_id,
        "data_through": f"{day(week)}T05:00:00+00:00",
        "datasets": json.dumps({"scores": key}),
        "score_source": "model",
        "serving_model_id": model_id,
    }
    release = releases.publish(warehouse, building.release_id, manifest, GOOD)
    if release.is_current:
        served_links.follow(warehouse, release)
    champions.write_aliases(warehouse)
    return release


def shown(warehouse: Path, contract: str = CONTRACT) -> dict[str, str]:
    """Date -> key of the scores that a reader of the tree finds."""
    links = sorted((warehouse / "scores" / contract).iterdir())
    return {link.name.removeprefix("score_date="): link.resolve().parent.name for link in links}


def current_id(warehouse: Path) -> str | None:
    """The release that the pointer names."""
    release = releases.current(warehouse)
    return release.release_id if release else None
