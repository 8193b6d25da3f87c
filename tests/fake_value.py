"""Facts of the value of a tiny night: policies that find conversions at different speeds, from arithmetic alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from fake_training import SPLITS, Flavour, Rows, period

from jobs import value
from jobs.policies import load_value

GRID = np.array([0, 1, 2, 5, 10, 20, 50, 100])
CANDIDATES, PAIRS, CONVERSIONS = 10, 1_000, 60.0  # per period: 100 pairs of each candidate
CLUSTERS = 12
# How fast a policy's conversions come with the budget; random ones come evenly.
SPEED = {"model": 0.050, "champion": 0.040, "prior": 0.025, "perfect": 0.5}
CONF = Path(__file__).parent.parent / "conf"


def sums_of(policy: str, speed: float = 0.0) -> dict[str, Any]:
    """What ffm_udf.profit.policy_sums would return."""
    periods = SPLITS["test"]
    speed = speed or SPEED.get(policy, 0.0)
    share = (1 - np.exp(-speed * GRID)) / (1 - np.exp(-speed * GRID[-1])) if speed else GRID / GRID[-1]
    wave = 1 + 0.05 * np.sin(np.arange(periods) + len(policy))
    conversions = CONVERSIONS * wave[:, None] * share
    contacted = np.broadcast_to(CANDIDATES * GRID, conversions.shape)
    curve = np.stack([contacted, conversions, 3.0 * conversions], axis=-1)
    at = curve[:, GRID.tolist().index(20)]
    parts = np.arange(1.0, CLUSTERS + 1) / (CLUSTERS * (CLUSTERS + 1) / 2)  # the last cluster is the largest
    whole = np.column_stack([np.full(periods, float(PAIRS)), CONVERSIONS * wave, 3 * CONVERSIONS * wave])
    found = {"grid": GRID, "curve": curve, "at": at, "whole": whole, "present": np.ones(CLUSTERS, bool)}
    found["clusters"] = parts[:, None, None] * at
    tenths = np.round(np.exp(-10 * speed * np.arange(10)) / np.exp(-10 * speed * np.arange(10)).sum() * CONVERSIONS)
    tenths = np.column_stack([np.full(10, PAIRS / 10), tenths, tenths + 0.5, 3 * tenths])
    return found | {"deciles": np.broadcast_to(tenths, (periods, 10, 4))}


def value_facts(flavour: Flavour) -> dict[str, Rows]:
    """The facts of `jobs.value`; the sweep has a champion, and a cost column."""
    policy = load_value(CONF / "value.yml")
    terms = value.terms_of(policy, 20)
    ids = {"model": f"ffm-k{flavour.verdict_k}", "prior": "prior"}
    if flavour.has_shadow:
        ids["champion"] = f"ffm-k{flavour.ks[0]}"
    named = ("model", "champion", "prior")
    policies = [value.Policy(name, "ranked", 0, ids[name]) for name in named if name in ids]
    policies += [value.Policy("random", "random"), value.Policy("perfect", "perfect")]
    sums = {each.name: sums_of(each.name) for each in policies}
    days = [period(SPLITS["test"] - i) for i in range(SPLITS["test"])]
    by_k = [(f"ffm-k{k}", k, sums_of("model", 0.05 + 0.001 * k)) for k in flavour.ks]
    chosen = next(sums for _, k, sums in by_k if k == flavour.verdict_k)
    return {
        "value_periods": [row for each in policies for row in value.period_rows(each, sums[each.name], days, terms)],
        "value_comparison": value.compare(sums, terms),
        "value_curve": [row for each in policies for row in value.curve_rows(each, sums, 20, terms)],
        "value_sensitivity": value.sensitivity_rows(sums, policy, terms),
        "value_by_k": value.by_k_rows(by_k, chosen, terms),
        "value_deciles": [row for each in policies if each.model_id for row in value.decile_rows(each, sums, terms)],
        "auction_utility": _auctions(policies) if flavour.has_shadow else [],
    }


def _auctions(policies: list[value.Policy]) -> Rows:
    """The model's utility is half as much again as the prior's, whatever is drawn."""
    found = []
    for each in policies:
        factor = {"model": 1.5, "champion": 1.25, "prior": 1.0}.get(each.name)
        for beta in (None, 10.0, 1000.0) if factor else ():
            delta = 40.0 * ((factor or 0) - 1)
            found.append(
                {"policy": each.name, "model_id": each.model_id, "kind": "expected" if beta else "plain", "beta": beta}
                | {
                    "won": 300,
                    "utility": 40.0 + delta,
                    "delta": delta,
                    "delta_lo": 0.8 * delta,
                    "delta_hi": 1.2 * delta,
                }
                | {"n_periods": SPLITS["test"], "assumption": "Nobody's bids react."}
            )
    return found
