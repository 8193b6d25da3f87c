"""Expected profit at a budget on the test periods: contact the top N entities of every candidate, by model or prior, or
at random. A backtest on recorded purchases; its assumptions travel with every number."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs import intervals
from jobs.cycle import Cycle
from jobs.policies import Value


def value_facts(
    rows: DataFrame, ids: list[str], verdict: int, cards: list[dict[str, Any]], cycle: Cycle, policy: Value
) -> tuple[list[dict], list[dict]]:
    """Rows of the facts `value_periods` and `value_comparison` from the predictions; `verdict` is the model's place."""
    prior = next(place for place, card in enumerate(cards) if card["algorithm"] == "prior")
    test = rows.where("split = 'test'").withColumn(
        "_pairs", F.count("*").over(Window.partitionBy("period_no", "candidate_id"))
    )
    periods = []
    for name, place in (("model", verdict), ("prior", prior)):
        # Ties are broken by a hash: not by the order of rows, which may carry information.
        order = Window.partitionBy("period_no", "candidate_id").orderBy(
            F.desc(f"p_{place}"), F.xxhash64("entity_id", "match_id", "exposure_time")
        )
        chosen = (F.row_number().over(order) <= policy.budget_top_n).cast("double").alias("share")
        periods += _totals(test.select("*", chosen), name, ids[place], cycle, policy)
    share = F.least(F.lit(policy.budget_top_n) / F.col("_pairs"), F.lit(1.0)).alias("share")
    periods += _totals(test.select("*", share), "random", None, cycle, policy)
    return periods, compare(periods, policy)


def _totals(rows: DataFrame, name: str, model_id: str | None, cycle: Cycle, policy: Value) -> list[dict[str, Any]]:
    """One row per period: what contacting each pair with probability `share` yields."""
    sums = rows.groupBy("period_no").agg(
        F.count("*").alias("pairs"),
        F.sum("share").alias("contacted"),
        F.sum(F.col("share") * F.col("y")).alias("conversions"),
        F.sum(F.col("share") * F.col("value")).alias("sales_value"),
    )
    found = []
    for row in sums.orderBy("period_no").collect():
        margin, cost = row["sales_value"] * policy.margin_rate, row["contacted"] * policy.contact_cost_usd
        found.append(
            {
                "policy": name,
                "model_id": model_id,
                "period": cycle.periods.day(row["period_no"]),
                "pairs": row["pairs"],
                "contacted": round(row["contacted"]),
                "conversions": row["conversions"],
                "sales_value": row["sales_value"],
                "margin_value": margin,
                "contact_cost": cost,
                "profit": margin - cost,
            }
        )
    return found


def compare(periods: list[dict[str, Any]], policy: Value) -> list[dict[str, Any]]:
    """Rows of fact `value_comparison`: model against prior and random, prior against random, paired by period."""
    found = []
    for name, baseline in (("model", "prior"), ("model", "random"), ("prior", "random")):
        for objective in policy.objectives:
            mine, theirs = (
                np.array([row[objective] for row in periods if row["policy"] == who]) for who in (name, baseline)
            )
            delta = intervals.total(mine - theirs)
            found.append(
                {
                    "policy": name,
                    "baseline": baseline,
                    "objective": objective,
                    "total": float(mine.sum()),
                    "baseline_total": float(theirs.sum()),
                    "delta": delta.value,
                    "delta_lo": delta.lo,
                    "delta_hi": delta.hi,
                    "n_periods": len(mine),
                    "assumption": " ".join(policy.assumptions.split()),
                }
            )
    return found
