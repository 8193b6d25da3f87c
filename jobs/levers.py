"""Job: what cheaper levers than more latent factors bring, on rolling-origin folds before the test periods.

Every setting changes one thing of the contract's own (the reference: its frozen block at the smallest k), and all get
the same folds, seeds and epochs. A setting's gain is the difference in calibrated logloss to the reference, paired by
fold and test period; its cost is CPU time in the worker. The contract's test periods are never read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from ffm_udf import FFM, workers
from ffm_udf.calibration import fit as fit_calibrator
from ffm_udf.cost import measured
from ffm_udf.metrics import row_logloss
from ffm_udf.row_store import RowStore
from jobs import intervals, row_arrays
from jobs.contract import Contract
from jobs.cycle import Cycle
from jobs.folds import Fold, refolded, rolling
from jobs.lake import Dataset
from jobs.training_tasks import spans


@dataclass(frozen=True)
class Options:
    """How the folds are cut: their number, the test periods of each, and how many seeds every setting gets."""

    folds: int = 3
    test_periods: int = 4
    seeds: int = 2


@dataclass(frozen=True)
class Setting:
    """The reference with one change: hyperparameters, training window, half-life, fields left out, or a refit through
    the calib periods with the epochs found."""

    lever: str
    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    window: int | None = None
    half_life: float | None = None
    without: tuple[str, ...] = ()
    refit: bool = False


def run(cycle: Cycle, spark: SparkSession, options: Options | None = None) -> Dataset:
    """Make the fact `lever_gain`."""
    options = options or Options()
    contract, rows, vocabulary = cycle.contract, cycle.dataset("rows"), cycle.dataset("vocabulary")
    with cycle.stage("levers") as stage:
        folds = planned(cycle, options)
        settings = reference_and_levers(contract, min(fold.train[1] - fold.train[0] + 1 for fold in folds))
        params = asdict(options) | contract.part("training", "grid", "split", "min_count", "fields")
        key = cycle.lake.key("lever_gain", __name__, {"rows": rows.content, "vocabulary": vocabulary.content}, params)
        reused = cycle.lake.find("lever_gain", key) is not None
        if not reused:
            tasks = plan(cycle, settings, folds, options.seeds)
            cycle.progress.note(
                f"{len(settings)} settings on {len(folds)} folds with {options.seeds} seeds each; "
                f"test periods {cycle.periods.day(folds[0].test[0])} to {cycle.periods.day(folds[-1].test[1])}"
            )
            done = spark.sparkContext.parallelize(tasks, len(tasks)).map(measured_losses).collect()
            cycle.lake.write_fact("lever_gain", key, gains(settings, done))
        cycle.remember({"lever_gain": key})
        stage.made(cycle.dataset("lever_gain"), reused)
    return cycle.dataset("lever_gain")


def planned(cycle: Cycle, options: Options) -> list[Fold]:
    """The folds: cut as the contract's split is, the newest ending with the last calib period."""
    ends, contract = spans(cycle), cycle.contract
    length = {part: ends[part][1] - ends[part][0] + 1 for part in ("valid", "calib")}
    first, last = min(row_arrays.opened(cycle).periods), ends["calib"][1]
    counts = {"folds": options.folds, "test": options.test_periods, **length}
    return rolling(first, last, **counts, maturity=cycle.periods.maturity, window=contract.training.window)


def reference_and_levers(contract: Contract, periods: int) -> list[Setting]:
    """The reference, then every lever's settings. `periods`: training periods that all folds have."""
    base, grid = contract.training, contract.grid.nightly
    smallest, *larger = sorted(grid.k)
    reference = Setting("reference", f"k = {smallest}", {"k": smallest}, half_life=base.half_life)
    found = [reference]

    def add(lever: str, name: str, changes: dict[str, Any] | None = None, **more: Any) -> None:
        changed = reference.changes | (changes or {})
        found.append(replace(reference, lever=lever, name=name, changes=changed, **more))

    for k in larger:
        add("more k", f"k = {k}", {"k": k})
    for factor in (0.25, 2.5, 5.0):
        lever = "more regularisation" if factor > 1 else "less regularisation"
        add(lever, f"l2 = {base.l2 * factor:g}", {"l2": base.l2 * factor})
    for factor in (0.5, 2.0):  # does the frozen step size favour some k?
        for k in sorted(grid.k):
            eta = base.eta * factor
            add("step size", f"eta = {eta:g}, k = {k}", {"eta": eta, "k": k})
    add("no early stopping", f"all {base.epochs} epochs", {"patience": None})
    add("refit", "on valid and calib too", refit=True)
    for share in (4, 2):
        window = max(periods // share, 1)
        add("fewer weeks", f"last {window} period{'s' * (window > 1)}", window=window)
    for name, fields in groups(contract).items():
        add("fewer fields", f"without {name}", without=fields)
    for share in (4, 2, 1):
        add("recency weights", f"half-life {periods / share:g}", half_life=periods / share)
    for rate in (0.5, 0.1):
        add("negative downsampling", f"{rate:.0%} of the negatives", {"negative_rate": rate})
    return found


def groups(contract: Contract) -> dict[str, tuple[str, ...]]:
    """The contract's fields by what they are made from; groups that are all of the fields are left out."""
    found: dict[str, list[str]] = defaultdict(list)
    for rule in contract.fields:
        if rule.transform == "history":
            found[f"history of {rule.of}"].append(rule.name)
        elif rule.side == "entity":
            found["plain entity fields"].append(rule.name)
    return {name: tuple(fields) for name, fields in found.items() if len(fields) < len(contract.fields)}


def plan(cycle: Cycle, settings: Sequence[Setting], folds: Sequence[Fold], seeds: int) -> list[dict[str, Any]]:
    """One task per setting, fold and seed, those with the largest k first."""
    contract, vocabulary = cycle.contract, cycle.dataset("vocabulary").table()
    offsets = [row["feature_id"] for row in vocabulary.to_pylist() if row["value"] is None]
    shared = {
        "rows": str(cycle.dataset("rows").root),
        "offsets": offsets,
        "n_features": vocabulary.num_rows,
        "min_count": contract.min_count,
        "maturity": cycle.periods.maturity,
    }
    first = contract.grid.shipping_seed
    tasks = [
        shared
        | {"setting": place, "fold": number, "seed": seed, "without": list(setting.without), "refit": setting.refit}
        | {"window": setting.window, "half_life": setting.half_life, "parts": asdict(fold)}
        | {"hyperparameters": contract.training.hyperparameters() | setting.changes | {"seed": seed}}
        for place, setting in enumerate(settings)
        for number, fold in enumerate(folds)
        for seed in range(first, first + seeds)
    ]
    return sorted(tasks, key=lambda task: -task["hyperparameters"]["k"])


def measured_losses(task: dict[str, Any]) -> dict[str, Any]:
    """Train the task's setting on its fold, in a worker: logloss summed by test period, CPU-seconds, bytes.

    Every test period is calibrated by the candidate's logits of the periods before it, and a refit with the same
    calibrators, as the model that goes live is.
    """
    store, fold, hyper = RowStore.open(task["rows"]), Fold(**task["parts"]), task["hyperparameters"]
    names = [name for name in store.fields if name not in task["without"]]
    workers.warm_up({"algorithm": "ffm", "fields": names, "hyperparameters": hyper})
    with measured() as cost:
        candidate, logits = fitted(task, store, fold.windowed(task["window"]), fold.valid, hyper)
        model, served = candidate, logits
        if task["refit"]:
            again = hyper | {"epochs": candidate.best_epoch_, "patience": None}
            through = [fold.windowed(task["window"])[0], fold.calib[1]]
            model, served = fitted(task, store, through, None, again)
    sums = {}
    for period in (number for number in store.periods if fold.test[0] <= number <= fold.test[1]):
        learned = store.span(*fold.calibration(period, task["maturity"]))
        calibrate = fit_calibrator(logits(learned), store.y[learned])
        rows = store.span(period, period)
        loss = row_logloss(store.y[rows], calibrate(served(rows)))
        sums[period] = (len(loss), float(loss.sum()))
    return {name: task[name] for name in ("setting", "fold", "seed")} | {
        "sums": sums,
        "cpu_s": cost.cpu_s,
        "artifact_bytes": int(model.nbytes_),
    }


def fitted(
    task: dict[str, Any], store: RowStore, train: list[int], valid: list[int] | None, hyper: dict[str, Any]
) -> tuple[FFM, Any]:
    """A model trained on the periods `train`, ids numbered by them alone, and the function rows -> its logits."""
    columns = [place for place, name in enumerate(store.fields) if name not in task["without"]]
    sizes = np.array(task["offsets"]), task["n_features"], task["min_count"]
    table, size = refolded(store, train, columns, *sizes)

    def ids(rows: slice) -> np.ndarray:
        return np.ascontiguousarray(table[store.X[rows][:, columns]])

    rows, weight = store.span(*train), None
    if task["half_life"] is not None:
        age = train[1] - store.period_numbers(rows)
        weight = np.float32(0.5) ** (age.astype(np.float32) / np.float32(task["half_life"]))
    part = None if valid is None else store.span(*valid)
    model = FFM(**hyper).fit(
        ids(rows),
        store.y[rows],
        eval_set=None if part is None else (ids(part), store.y[part]),
        sample_weight=weight,
        n_features=size,
    )
    return model, lambda some: model.decision_function(ids(some))


def gains(settings: Sequence[Setting], done: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of fact `lever_gain` from what the workers found; the first setting is the reference.

    A period's loss is the mean over the seeds; the interval is a t interval over the folds' test periods.
    """
    losses: dict[int, dict[tuple[int, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    costs: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for result in done:
        costs[result["setting"]].append(result)
        for period, (_, loss) in result["sums"].items():
            losses[result["setting"]][result["fold"], period].append(loss)
    places = sorted(losses[0])
    base = np.array([np.mean(losses[0][place]) for place in places])
    reference_cpu = np.mean([result["cpu_s"] for result in costs[0]])
    found = []
    for number, setting in enumerate(settings):
        mine = np.array([np.mean(losses[number][place]) for place in places])
        gain = intervals.ratio(mine - base, base)
        cpu = float(np.mean([result["cpu_s"] for result in costs[number]]))
        found.append(
            {
                "lever": setting.lever,
                "setting": setting.name,
                "k": setting.changes["k"],
                "delta_logloss_relative": gain.value,
                "delta_lo": gain.lo,
                "delta_hi": gain.hi,
                "cpu_s": cpu,
                "cpu_ratio": cpu / float(reference_cpu),
                "artifact_bytes": max(result["artifact_bytes"] for result in costs[number]),
                "n_folds": len({fold for fold, _ in places}),
                "n_periods": len(places),
                "n_seeds": len({result["seed"] for result in costs[number]}),
                "is_reference": number == 0,
            }
        )
    return found


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("levers"))
