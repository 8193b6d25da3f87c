"""What running a model takes, by the formulas of the mart `fct_accuracy_cost_by_k`.

Limits on it are needed before there are marts: when k is chosen, among those that can run at all.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import yaml

from jobs.policies import Rates
from jobs.warehouse import PROJECT

MIB, GIB = 2**20, 2**30


def operational_rows(
    rates: Rates, models: Iterable[Mapping[str, Any]], costs: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row per model of `models` (rows of fact `models`) with its operational columns as the mart names them.

    `costs`: rows of fact `scoring_cost`; where a model has none, what depends on them is None: not measured.
    """
    repeats: dict[str, list[Mapping[str, Any]]] = {}
    for row in costs:
        repeats.setdefault(row["model_id"], []).append(row)
    return [_row(rates, model, repeats.get(model["model_id"], [])) for model in models]


def _row(rates: Rates, model: Mapping[str, Any], repeats: list[Mapping[str, Any]]) -> dict[str, Any]:
    known = {
        "model_id": model["model_id"],
        "k": model["k"],
        "n_parameters": model["n_parameters"],
        "artifact_mib": model["artifact_bytes"] / MIB,
        "train_cpu_s": model["cpu_s"],
        "train_wall_s": model["wall_s"],
        "train_peak_rss_mib": model["peak_rss_mib"],
    }
    scored = dict.fromkeys(("score_peak_rss_mib", "score_cpu_s_per_1m", "score_rows_per_s", "usd_per_1m_scores"))
    if not repeats:
        return known | scored
    cpu, wall = (statistics.median(row[name] / row["rows"] for row in repeats) * 1e6 for name in ("cpu_s", "wall_s"))
    memory = max(row["peak_rss_mib"] for row in repeats)
    usd = cpu / 3600 * rates.usd_per_cpu_hour + memory / 1024 * wall / 3600 * rates.usd_per_gib_hour
    usd += model["artifact_bytes"] / GIB * rates.usd_per_gib_month * 1e6 / _scores_per_month()
    return known | {
        "score_peak_rss_mib": memory,
        "score_cpu_s_per_1m": cpu,
        "score_rows_per_s": statistics.median(row["rows"] / row["wall_s"] for row in repeats),
        "usd_per_1m_scores": usd,
    }


@cache
def _scores_per_month() -> float:
    """The variable of dbt/dbt_project.yml: it stands there once."""
    return float(yaml.safe_load((PROJECT / "dbt_project.yml").read_text(encoding="utf-8"))["vars"]["scores_per_month"])
