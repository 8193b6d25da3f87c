"""The self-test: what the product prints about a truth world, held against the truth.

Every check draws worlds from stored predictions (jobs/fresh_labels.py), hands the sums of each to the functions that
write the facts, and counts how often what they say is so. Nothing here computes an interval or a verdict of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from ffm_udf.profit import levels
from jobs import comparison, intervals
from jobs.gate import Gate
from jobs.lake import PROJECT
from jobs.policies import load_value, read_policy
from jobs.truth_models import PRIOR, Setup, Stored, stored_predictions
from jobs.truth_world import TruthWorld
from jobs.value import terms_of

MARGIN = read_policy(PROJECT / "conf" / "gate.yml", Gate).margin_relative_logloss
VALUE = load_value(PROJECT / "conf" / "value.yml")
TOP_N = VALUE.budget_top_n  # contacts per candidate and period
TERMS = terms_of(VALUE, TOP_N)
Sums = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Share:
    """How often something held: `hits` of `trials` worlds."""

    name: str
    hits: int
    trials: int

    @property
    def value(self) -> float:
        return self.hits / self.trials

    def band(self, level: float) -> tuple[float, float]:
        """The exact binomial interval of the share (Clopper and Pearson 1934)."""
        found = stats.binomtest(self.hits, self.trials).proportion_ci(level, "exact")
        return float(found.low), float(found.high)


def model_sums(models: Mapping[str, np.ndarray]) -> Sums:
    """The sums that metrics are made of, for models by id with probabilities [n]; for `Stored.pool`."""
    sums: Sums = {"n": (1.0, 0.0), "conversions": (0.0, 1.0)}
    for model_id, p in models.items():
        sums[f"sum_p {model_id}"] = (p, 0.0)
        # -log(1 - p) without a conversion, -log p with one
        sums[f"sum_logloss {model_id}"] = (-np.log1p(-p), np.log1p(-p) - np.log(p))
    return sums


def profit_sums(stored: Stored, model: tuple[int, int] | str) -> tuple[np.ndarray, np.ndarray]:
    """Profit of contacting the TOP_N eligible rows of each candidate and period with the highest p, above that of
    contacting the prior's: what each row brings anyway and what it adds if it converts."""
    gap = _contacted(stored, stored.p[model]) - _contacted(stored, stored.p[PRIOR])
    nothing = np.zeros_like(gap)
    anyway = TERMS.amounts(np.stack([gap, nothing, nothing], axis=-1))["profit"]
    bought = TERMS.amounts(np.stack([gap, gap, gap * stored.rows.amount], axis=-1))["profit"]
    return anyway, bought - anyway


def _contacted(stored: Stored, p: np.ndarray) -> np.ndarray:
    rows = stored.rows
    group = rows.period * (rows.columns["campaign"].max() + 1) + rows.columns["campaign"]
    rank = levels(np.where(rows.eligible, p, -1.0), rows.number, group)
    return (rank <= TOP_N) * rows.eligible.astype(np.float64)


def period_rows(models: Sequence[str], names: Sequence[str], world: np.ndarray) -> list[dict[str, Any]]:
    """Rows as of fact `period_metrics` from the sums `names` of one world, float64 [periods, sums]."""
    at = {name: place for place, name in enumerate(names)}
    return [
        {
            "model_id": model_id,
            "split": "test",
            "period": period,
            "n": row[at["n"]],
            "conversions": row[at["conversions"]],
            "sum_p": row[at[f"sum_p {model_id}"]],
            "sum_logloss": row[at[f"sum_logloss {model_id}"]],
        }
        for model_id in models
        for period, row in enumerate(world)
    ]


def name_of(model: tuple[int, int] | str) -> str:
    return model if isinstance(model, str) else f"ffm-k{model[0]}-s{model[1]}"


class Case:
    """The models of a pool with the truth about them. `shown`, the model of the last k and first seed, is the one whose
    calibration and profit are looked at."""

    def __init__(self, stored: Stored, setup: Setup) -> None:
        self.setup, self.ship, self.shown = setup, setup.seeds[0], name_of((setup.ks[-1], setup.seeds[0]))
        self.models = [name_of(key) for key in stored.p]
        sums = model_sums({name_of(key): p for key, p in stored.p.items()})
        sums["profit"] = profit_sums(stored, (setup.ks[-1], self.ship))
        self.names, self.pool = list(sums), stored.pool(sums)
        mean = dict(zip(self.names, self.pool.expected().mean(axis=0).tolist(), strict=True))
        self.loss = {model_id: mean[f"sum_logloss {model_id}"] / mean["n"] for model_id in self.models}
        self.calibration = mean[f"sum_p {self.shown}"] / mean["conversions"]
        self.profit = mean["profit"]  # of a period

    def cards(self, ks: Sequence[int], seeds: Sequence[int]) -> list[dict[str, Any]]:
        """What the comparison of k reads of the models' cards."""
        return [
            {"model_id": name_of((k, seed)), "algorithm": "ffm", "task": {"hyperparameters": {"k": k, "seed": seed}}}
            for k in ks
            for seed in seeds
        ]

    def covered(self, world: np.ndarray) -> dict[str, bool]:
        """Whether each interval that is printed about one world [periods, sums] holds the truth: logloss differences of
        the first and last k and of the last k and the prior, those of every k to the best one all at once, the
        calibration ratio, and the profit above the prior's. Models of one seed."""
        rows, ks = period_rows(self.models, self.names, world), self.setup.ks
        pair, every = (
            [
                row
                for row in comparison.compare_k(rows, self.cards(chosen, [self.ship]), MARGIN, self.ship)
                if row["k"] != row["best_k"]
            ]
            for chosen in ((ks[0], ks[-1]), ks)
        )
        prior = comparison.compare_incumbent(rows, self.shown, PRIOR, MARGIN)
        ratio = comparison.calibration_interval([row for row in rows if row["model_id"] == self.shown])
        profit = intervals.total(world[:, self.names.index("profit")])
        return {
            "logloss, k against k": self._holds(pair[0]),
            "logloss, every k against the best": all(self._holds(row, "_simultaneous") for row in every),
            "logloss, model against prior": inside(
                self.loss[self.shown] - self.loss[PRIOR], prior["delta_lo"], prior["delta_hi"]
            ),
            "calibration ratio": inside(self.calibration, *ratio),
            "profit above the prior's": inside(len(world) * self.profit, profit.lo, profit.hi),
        }

    def _holds(self, row: Mapping[str, Any], kind: str = "") -> bool:
        truth = self.loss[row["model_id"]] - self.loss[row["best_model_id"]]
        return inside(truth, row[f"delta_lo{kind}"], row[f"delta_hi{kind}"])


def inside(truth: float, lo: float | None, hi: float | None) -> bool:
    """Whether an interval holds the truth; without an upper end nothing is too high, without both there is none."""
    return lo is not None and lo <= truth and (hi is None or truth <= hi)


def coverage(case: Case, worlds: int, n_periods: int, seed: int) -> list[Share]:
    """How often each 95 % interval over `n_periods` periods holds the truth, by what it is about."""
    found = [case.covered(world) for world in case.pool.draw(worlds, n_periods, seed)]
    return [Share(name, sum(row[name] for row in found), worlds) for name in found[0]]


def trained_world(world: TruthWorld, setup: Setup, sizes: Sequence[int], redraws: int = 25) -> list[dict[str, Any]]:
    """One world trained anew and judged once on each number of test periods in `sizes`: one dict for each.

    n_periods, n: test periods and rows; k: the verdict; excess: its true expected logloss over that of the truly best
    feasible k, relative (that of a k is the mean over its seeds); smallest: the same of the smallest k; tells: whether
    the world is large enough to tell, see `large_enough`; covered: as `Case.covered`; redrawn: how often in `redraws`
    more draws of labels and periods for the same models. In every fourth world the largest k is not feasible.
    """
    case = Case(stored_predictions(world, setup), setup)
    of_k = {k: float(np.mean([case.loss[name_of((k, seed))] for seed in setup.seeds])) for k in setup.ks}
    infeasible = {setup.ks[-1]: "memory"} if world.seed % 4 == 0 else {}
    feasible = [k for k in setup.ks if k not in infeasible]
    best = min(of_k[k] for k in feasible)
    found = []
    for n_periods in sizes:
        drawn = case.pool.draw(1, n_periods, world.seed)[0]
        others = case.pool.draw(redraws, n_periods, world.seed)
        again = [case.covered(other) for other in others]
        rows, cards = period_rows(case.models, case.names, drawn), case.cards(setup.ks, setup.seeds)
        compared = comparison.compare_k(rows, cards, MARGIN, case.ship, infeasible=infeasible)
        [verdict] = [row for row in compared if row["is_verdict"]]
        found.append(
            {
                "n_periods": n_periods,
                "n": int(drawn[:, case.names.index("n")].sum()),
                "k": verdict["k"],
                "excess": of_k[verdict["k"]] / best - 1.0,
                "smallest": of_k[setup.ks[0]] / best - 1.0,
                "tells": large_enough(case, others, feasible),
                "covered": case.covered(drawn),
                "redrawn": {name: sum(row[name] for row in again) for name in again[0]},
            }
        )
    return found


def large_enough(case: Case, worlds: np.ndarray, feasible: Sequence[int]) -> bool:
    """Whether test sets of this size can be expected to tell, whatever the one that is judged says.

    For every feasible k but the truly best one: the simultaneous interval that the truth makes one expect is narrower
    than the margin on either side, or the true gap lies beyond the margin by more than that. Its standard errors are
    that over periods, root mean square over `worlds` [worlds, periods, sums] that are not judged, and that over seeds.
    """
    at = {name: place for place, name in enumerate(case.names)}
    seeds, ks = case.setup.seeds, case.setup.ks
    of = {k: np.array([case.loss[name_of((k, seed))] for seed in seeds]) for k in ks}
    best = min(feasible, key=lambda k: of[k].mean())
    margin, level = MARGIN * of[best].mean(), intervals.simultaneous(0.95, len(ks) - 1)
    summed = {k: worlds[:, :, [at[f"sum_logloss {name_of((k, seed))}"] for seed in seeds]].mean(axis=2) for k in ks}
    for k in feasible:
        if k == best:
            continue
        found = zip(summed[k] - summed[best], worlds[:, :, at["n"]], strict=True)
        periods = float(np.sqrt(np.mean([(intervals.ratio(gap, n).error or 0.0) ** 2 for gap, n in found])))
        gaps = of[k] - of[best]
        errors = [(periods, worlds.shape[1] - 1)]
        if len(seeds) > 1:
            errors.append((float(gaps.std(ddof=1) / np.sqrt(len(seeds))), len(seeds) - 1))
        expected = intervals.combined(float(gaps.mean()), errors, level)
        if expected.lo is None or expected.value - expected.lo >= margin >= expected.lo:
            return False
    return True
