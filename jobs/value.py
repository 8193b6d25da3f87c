"""Value of the chosen model on the test periods: what contacting the pairs it ranks highest would have brought, against
the champion, the prior, random contacts and, as an upper bound, contacts that know what is bought.

A backtest on recorded purchases; its assumptions stand in a column of every row. Tasks rank the rows and return sums
per period (ffm_udf/profit.py); money, intervals and the distribution of totals are made of these here. Differences are
paired by period with t intervals; 5th to 95th percentiles are those of jobs/profit_distribution.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffm_udf.profit import DECILES, policy_sums
from jobs import intervals
from jobs.auction_utility import auction_rows
from jobs.judged import Judged
from jobs.policies import Value
from jobs.profit_distribution import REPLICATES, Draws, quantiles, redrawn

Rows = list[dict[str, Any]]

# The facts that `value_facts` makes.
FACTS = (
    *("value_periods", "value_comparison", "value_curve", "value_sensitivity", "value_by_k", "value_deciles"),
    "auction_utility",
)
PAIRS = (
    ("model", "champion"),
    ("model", "prior"),
    ("model", "random"),
    ("model", "perfect"),
    ("prior", "random"),
)
SEED = 1  # of the redrawn households


@dataclass(frozen=True)
class Policy:
    """Someone who chooses contacts: `kind` ranked, random or perfect; `place` and `model_id` of a ranking."""

    name: str
    kind: str
    place: int | None = None
    model_id: str | None = None


@dataclass(frozen=True)
class Terms:
    """What a contact costs and earns, and in words what was assumed."""

    margin_rate: float
    contact_cost: float
    wrong_contact_cost: float
    objectives: tuple[str, ...]
    assumption: str

    def amounts(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Each objective from contacts, conversions and sales value in the last axis of `sums`."""
        contacted, conversions, sales_value = np.moveaxis(sums, -1, 0)
        cost = self.contact_cost * contacted + self.wrong_contact_cost * (contacted - conversions)
        profit = self.margin_rate * sales_value - cost
        return {"conversions": conversions, "sales_value": sales_value, "profit": profit}


def value_facts(judged: Judged, verdict: int, prior: int, champion: int | None, policy: Value) -> dict[str, Rows]:
    """Rows of each of FACTS. `verdict`, `prior` and `champion` are places among the judged models; without a champion
    nothing is compared with one. No rows where no pair of the test periods is eligible."""
    named = {"model": verdict, "champion": champion, "prior": prior}
    ranked = {name: place for name, place in named.items() if place is not None}
    policies = [Policy(name, "ranked", place, judged.ids[place]) for name, place in ranked.items()]
    policies += [Policy("random", "random"), Policy("perfect", "perfect")]
    at = policy.budget if policy.budget is not None else chosen_budget(judged, verdict, policy)
    terms = terms_of(policy, at)
    shown = shown_models(judged)
    known = {each.model_id for each in policies}
    every = policies + [Policy(f"k = {k}", "ranked", judged.place_of(i), i) for i, k in shown if i not in known]
    numbers = _test_periods(judged)
    days = [judged.cycle.periods.day(number) for number in numbers]
    tasks = [_task(judged, each, policy.target.per, at, numbers, each in policies) for each in every]
    sums = {each.name: found for each, found in zip(every, judged.run(policy_sums, tasks), strict=True)}
    if not sums["random"]["whole"][:, 0].any():  # nobody may be contacted, which no policy is worth anything for
        return {name: [] for name in FACTS}
    by_model = {each.model_id: sums[each.name] for each in every if each.model_id}
    return {
        "value_periods": [row for each in policies for row in period_rows(each, sums[each.name], days, terms)],
        "value_comparison": compare(sums, terms),
        "value_curve": [row for each in policies for row in curve_rows(each, sums, at, terms)],
        "value_sensitivity": sensitivity_rows(sums, policy, terms),
        "value_by_k": by_k_rows([(i, k, by_model[i]) for i, k in shown], by_model[judged.ids[verdict]], terms),
        "value_deciles": [row for each in policies if each.kind == "ranked" for row in decile_rows(each, sums, terms)],
        "auction_utility": auction_rows(judged, ranked, terms.margin_rate, numbers),
    }


def chosen_budget(judged: Judged, verdict: int, policy: Value) -> int:
    """The budget with the highest profit of the verdict's model on the valid and calib periods."""
    numbers = [number for part in ("valid", "calib") for number in _periods_of(judged, part)]
    task = _task(judged, Policy("model", "ranked", verdict), policy.target.per, None, numbers, False)
    [found] = judged.run(policy_sums, [task])
    profit = terms_of(policy, 0).amounts(found["curve"].sum(axis=0))["profit"]
    return int(found["grid"][profit.argmax()])


def _test_periods(judged: Judged) -> list[int]:
    return _periods_of(judged, "test")


def _periods_of(judged: Judged, part: str) -> list[int]:
    """Numbers of the periods of a part of the split that have rows."""
    rows = judged.cycle.dataset("label_rates").table().to_pylist()
    found = (judged.cycle.periods.number(row["period"]) for row in rows if row["split"] == part and row["exposures"])
    return sorted(found)


def shown_models(judged: Judged) -> list[tuple[str, int]]:
    """Ids and k of the FFM candidates of the seed that ships, by k."""
    models = judged.cycle.dataset("models").table().to_pylist()
    shown = [row for row in models if row["role"] == "candidate" and row["algorithm"] == "ffm"]
    return sorted(
        ((row["model_id"], row["k"]) for row in shown if row["is_shipping_seed"] and row["model_id"] in judged.ids),
        key=lambda found: found[1],
    )


def _task(
    judged: Judged, policy: Policy, per: str, at: int | None, numbers: list[int], clusters: bool
) -> dict[str, Any]:
    return judged.task(policy=policy.kind, place=policy.place, per=per, at=at, periods=numbers, clusters=clusters)


def terms_of(policy: Value, at: int) -> Terms:
    """The terms of the policy file, and its assumptions with the numbers that were put in."""
    of = "of each candidate and period" if policy.target.per == "candidate" else "of each period"
    source = "given" if policy.budget is not None else "the most profitable of the valid and calib periods"
    said = (
        f"{' '.join(policy.assumptions.split())} Chosen are the {at:,} pairs {of} that are ranked highest ({source}):"
        f" margin {policy.margin_rate:g} of the sales value, {policy.contact_cost_usd:g} USD for a contact and"
        f" {policy.wrong_contact_cost_usd:g} USD more where it does not convert."
    )
    costs = (policy.margin_rate, policy.contact_cost_usd, policy.wrong_contact_cost_usd)
    return Terms(*costs, policy.objectives, said)


def period_rows(policy: Policy, sums: dict[str, Any], days: Sequence[Any], terms: Terms) -> Rows:
    """Rows of fact `value_periods` of one policy."""
    found = []
    profit = terms.amounts(sums["at"])["profit"]
    for i, day in enumerate(days):
        contacted, conversions, sales_value = sums["at"][i].tolist()
        found.append(
            {"policy": policy.name, "model_id": policy.model_id, "period": day, "pairs": int(sums["whole"][i, 0])}
            | {"contacted": round(contacted), "conversions": conversions, "sales_value": sales_value}
            | {"margin_value": terms.margin_rate * sales_value, "contact_cost": terms.contact_cost * contacted}
            | {"wrong_contact_cost": terms.wrong_contact_cost * (contacted - conversions)}
            | {"profit": float(profit[i]), "assumption": terms.assumption}
        )
    return found


def compare(sums: dict[str, dict[str, Any]], terms: Terms) -> Rows:
    """Rows of fact `value_comparison`: PAIRS of the policies there are, by objective, paired by period."""
    names = {name for pair in PAIRS for name in pair if name in sums}
    present = np.logical_or.reduce([sums[name]["present"] for name in names])
    periods = len(sums["model"]["at"])
    draws = Draws.of(int(present.sum()), periods, SEED)
    drawn = {name: terms.amounts(redrawn(sums[name]["clusters"][present], draws)) for name in names}
    seen = {name: terms.amounts(sums[name]["at"]) for name in names}
    found = []
    for name, baseline in PAIRS:
        if name not in sums or baseline not in sums:
            continue
        for objective in terms.objectives:
            mine, theirs = seen[name][objective], seen[baseline][objective]
            delta = intervals.total(mine - theirs)
            of_total = quantiles(drawn[name][objective], mine, draws)
            of_delta = quantiles(drawn[name][objective] - drawn[baseline][objective], mine - theirs, draws)
            found.append(
                {"policy": name, "baseline": baseline, "objective": objective}
                | {"total": float(mine.sum()), "baseline_total": float(theirs.sum())}
                | {"delta": delta.value, "delta_lo": delta.lo, "delta_hi": delta.hi}
                | dict(zip(("total_p5", "total_p50", "total_p95"), of_total, strict=True))
                | dict(zip(("delta_p5", "delta_p50", "delta_p95"), of_delta, strict=True))
                | {"n_periods": periods, "n_clusters": int(present.sum()), "replicates": REPLICATES}
                | {"assumption": terms.assumption}
            )
    return found


def curve_rows(policy: Policy, sums: dict[str, dict[str, Any]], at: int, terms: Terms) -> Rows:
    """Rows of fact `value_curve` of one policy: totals over the test periods at every budget of the grid, and profit
    against random contacts and the prior at the same budget."""
    mine, whole = sums[policy.name], sums[policy.name]["whole"].sum(axis=0)
    periods = len(mine["curve"])
    profit = {name: terms.amounts(sums[name]["curve"])["profit"] for name in {policy.name, "random", "prior"}}
    found = []
    for point, budget in enumerate(mine["grid"].tolist()):
        contacted, conversions, sales_value = mine["curve"][:, point].sum(axis=0).tolist()
        own = intervals.total(profit[policy.name][:, point])
        row = {"policy": policy.name, "model_id": policy.model_id, "budget": budget, "is_target": budget == at}
        row |= {"contacts_per_period": contacted / periods, "contacted": contacted, "conversions": conversions}
        row |= {"sales_value": sales_value, "pairs": int(whole[0]), "conversions_of_all": float(whole[1])}
        row |= {"profit": own.value, "profit_lo": own.lo, "profit_hi": own.hi}
        is_everybody = round(contacted) == int(whole[0])  # whom nobody can choose among; sums differ in their last bits
        for name in ("random", "prior"):
            gaps = profit[policy.name][:, point] - profit[name][:, point]
            delta = intervals.total(np.zeros(periods) if is_everybody else gaps)
            row |= {f"over_{name}": delta.value, f"over_{name}_lo": delta.lo, f"over_{name}_hi": delta.hi}
        found.append(row | {"n_periods": periods, "assumption": terms.assumption})
    return found


def sensitivity_rows(sums: dict[str, dict[str, Any]], policy: Value, terms: Terms) -> Rows:
    """Rows of fact `value_sensitivity`: the model's profit beyond each baseline for other margins and contact costs.

    Baseline "nobody" contacts nobody: the difference is the profit itself. Break-even is the margin, or the cost of a
    contact, at which the difference is 0, all else as in the row. Policies with equally many contacts differ by no
    contact cost: then there is none.
    """
    margins = sorted({*policy.sensitivity.margin_rate, policy.margin_rate})
    costs = sorted({*policy.sensitivity.contact_cost_usd, policy.contact_cost_usd})
    found = []
    for baseline in ("nobody", "champion", "prior", "random"):
        if baseline != "nobody" and baseline not in sums:
            continue
        gaps = sums["model"]["at"] - (0.0 if baseline == "nobody" else sums[baseline]["at"])
        contacted, conversions, sales_value = gaps.sum(axis=0).tolist()
        wrong = terms.wrong_contact_cost * (contacted - conversions)
        has_cost = abs(contacted) > 1e-6 * sums["model"]["at"][:, 0].sum()
        for margin in margins:
            for cost in costs:
                other = Terms(margin, cost, terms.wrong_contact_cost, ("profit",), "")
                delta = intervals.total(other.amounts(gaps)["profit"])
                found.append(
                    {"baseline": baseline, "margin_rate": margin, "contact_cost": cost}
                    | {"delta": delta.value, "delta_lo": delta.lo, "delta_hi": delta.hi}
                    | {"break_even_margin": (cost * contacted + wrong) / sales_value if sales_value else None}
                    | {"break_even_contact_cost": (margin * sales_value - wrong) / contacted if has_cost else None}
                    | {"is_assumed": (margin, cost) == (policy.margin_rate, policy.contact_cost_usd)}
                    | {"n_periods": len(gaps), "assumption": terms.assumption}
                )
    return found


def by_k_rows(shown: Sequence[tuple[str, int, dict[str, Any]]], verdict: dict[str, Any], terms: Terms) -> Rows:
    """Rows of fact `value_by_k`: every k of the seed that ships at the budget, against the chosen one."""
    chosen, found = terms.amounts(verdict["at"]), []
    for model_id, k, sums in shown:
        amounts = terms.amounts(sums["at"])
        for objective in terms.objectives:
            delta = intervals.total(amounts[objective] - chosen[objective])
            found.append(
                {"model_id": model_id, "k": k, "objective": objective, "total": float(amounts[objective].sum())}
                | {"delta": delta.value, "delta_lo": delta.lo, "delta_hi": delta.hi}
                | {"n_periods": len(sums["at"]), "assumption": terms.assumption}
            )
    return found


def decile_rows(policy: Policy, sums: dict[str, dict[str, Any]], terms: Terms) -> Rows:
    """Rows of fact `value_deciles`: tenths of each period's eligible pairs by falling p; the interval of the observed
    rate is over periods."""
    parts, found = sums[policy.name]["deciles"], []
    for decile in range(DECILES):
        n, conversions, sum_p, sales_value = parts[:, decile].sum(axis=0).tolist()
        if not n:
            continue
        rate = intervals.ratio(parts[:, decile, 1], parts[:, decile, 0])
        found.append(
            {"policy": policy.name, "model_id": policy.model_id, "decile": decile + 1, "n": int(n)}
            | {"conversions": int(conversions), "sum_p": sum_p, "sales_value": sales_value}
            | {"observed_rate_lo": rate.lo, "observed_rate_hi": rate.hi, "assumption": terms.assumption}
        )
    return found
