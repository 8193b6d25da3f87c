"""What bidding p times the value of a conversion would have earned in second-price auctions, for contracts with a cost.

The recorded cost is the highest competing bid. Plain utility takes it as it was: a row is won where the bid is above it
and earns what its conversion brought less that cost. Expected utility draws the competing bid around it, so that a
small change of a bid changes the utility a little (O. Chapelle, "Offline Evaluation of Response Prediction in Online
Advertising Auctions", WWW 2015): Gamma with shape b c + 1 and rate b, whose mode is the cost c. A small b forgets the
cost, a large one gives plain utility; 10 and 1000 are those of Y. Juan, D. Lefortier and
O. Chapelle ("Field-aware Factorization Machines in a Real-world Online Advertising System", WWW 2017).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from ffm_udf.predictions import opened
from jobs import intervals
from jobs.judged import Judged

BETAS = (10.0, 1000.0)  # per US dollar

ASSUMPTION = (
    "Simulated second-price auctions of the exposures that were won in fact: the recorded cost is taken for the highest"
    " competing bid, each policy bids p times the mean margin of a conversion in the valid and calib periods, and a won"
    " exposure earns the margin of what was bought. Expected utility draws the competing bid from a gamma distribution"
    " around the cost (Chapelle 2015). Nobody's bids react, and purchases are not caused by exposures."
)


def auction_rows(
    judged: Judged, places: dict[str, int], margin_rate: float, numbers: list[int]
) -> list[dict[str, Any]]:
    """Rows of fact `auction_utility` of the policies in `places` (name -> place), none where the contract has no cost
    column; against that of name "prior", paired by the periods of these numbers."""
    if judged.cycle.contract.cost is None:
        return []
    tasks = [judged.task(place=place, margin_rate=margin_rate, periods=numbers) for place in places.values()]
    sums = dict(zip(places, judged.run(auction_sums, tasks), strict=True))
    found = []
    for name, mine in sums.items():
        for column, beta in enumerate((None, *BETAS), start=1):
            delta = intervals.total(mine[:, column] - sums["prior"][:, column])
            found.append(
                {"policy": name, "model_id": judged.ids[places[name]]}
                | {"kind": "expected" if beta else "plain", "beta": beta}
                | {"won": int(mine[:, 0].sum()), "utility": float(mine[:, column].sum())}
                | {"delta": delta.value, "delta_lo": delta.lo, "delta_hi": delta.hi, "n_periods": len(mine)}
                | {"assumption": f"{ASSUMPTION} Margin {margin_rate:g} of the sales value."}
            )
    return found


def plain_utility(bid: np.ndarray, gain: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """gain - cost of every row whose bid is above its cost, 0 of the others."""
    return np.where(bid > cost, gain - cost, 0.0)


def expected_utility(bid: np.ndarray, gain: np.ndarray, cost: np.ndarray, beta: float) -> np.ndarray:
    """The integral of (gain - c) f(c) over 0 < c < bid, f = Gamma(shape beta cost + 1, rate beta).

    c f_a(c) = (a / beta) f_(a+1)(c) for f_a of shape a, so it is gain F_a(bid) - (a / beta) F_(a+1)(bid) with the
    regularized incomplete gamma function P(a, beta bid) as F_a.
    """
    shape = beta * cost + 1.0
    won = special.gammainc(shape, beta * bid)
    return gain * won - shape / beta * special.gammainc(shape + 1.0, beta * bid)


def auction_sums(task: dict[str, Any]) -> np.ndarray:
    """Sums per test period, float64 [P, 2 + len(BETAS)]: rows won, plain utility, expected utility by beta.

    task: `place` of the model, `margin_rate`, `periods`. The bid is p times the mean margin of a conversion in the
    valid and calib periods; no test row sets it. Only eligible rows are auctioned.
    """
    rows, predictions = opened(task)
    if rows.cost is None:
        raise ValueError("auctions need a cost per row: the contract must name a column as `cost`")
    before = slice(rows.splits["valid"].start, rows.splits["calib"].stop)
    conversions = float(rows.y[before].sum())
    worth = task["margin_rate"] * float(rows.value[before].sum()) / conversions if conversions else 0.0
    found = []
    for number in task["periods"]:
        span = rows.periods[number]
        mine = np.ones(span.stop - span.start, bool) if rows.eligible is None else np.asarray(rows.eligible[span])
        bid, cost = worth * predictions.p(task["place"], span)[mine], rows.cost[span][mine]
        gain = task["margin_rate"] * rows.value[span][mine]
        expected = [expected_utility(bid, gain, cost, beta).sum() for beta in BETAS]
        found.append([(bid > cost).sum(), plain_utility(bid, gain, cost).sum(), *expected])
    return np.array(found, np.float64)
