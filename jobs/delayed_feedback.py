"""Job: what to make of labels that are not final yet, measured: one model trained in five ways over time.

At the start of every period that has exposures (the as-of date) one model per way and seed learns from all earlier
exposures, of whose conversions it knows those before that instant, and is judged on the period's own exposures by their
final labels. Differences to training on mature rows alone are paired by as-of date. The number of epochs is fixed and
the same for all: what would choose it has labels that are late as well. No calibrator either, since it would hide what
the ways differ in.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from ffm_udf import FFM, delayed_labels, workers
from ffm_udf.delayed_labels import METHODS, Labelled
from ffm_udf.metrics import row_logloss, sigmoid
from jobs import delayed_rows, intervals
from jobs.contract import ContractError
from jobs.cycle import Cycle
from jobs.delay_curve import fitted
from jobs.delayed_rows import DAY, DelayedRows
from jobs.folds import refolded
from jobs.lake import Dataset

REFERENCE = "mature_only"


@dataclass(frozen=True)
class Options:
    """As-of dates at most (the last ones), seeds of each, epochs of every model, and the conversions that training on
    mature rows must have for a date to count."""

    as_ofs: int = 12
    seeds: int = 2
    epochs: int = 8
    conversions: int = 50


def run(cycle: Cycle, spark: SparkSession, options: Options | None = None) -> Dataset:
    """Make the fact `delayed_feedback`. Raises ContractError if labels are final as soon as the period ends."""
    options = options or Options()
    if isinstance(cycle.contract.label.window, str):
        raise ContractError(
            "delayed feedback needs label.window in days, got 'end_of_period': labels are final when the period ends"
        )
    with cycle.stage("delayed-feedback") as stage:
        rows, vocabulary = delayed_rows.make(cycle, spark)
        params = asdict(options) | cycle.contract.part("training", "grid", "min_count", "label", "period")
        params |= {"scoring": cycle.periods.scoring}
        key = cycle.lake.key("delayed_feedback", __name__, {"rows": rows.content}, params)
        reused = cycle.lake.find("delayed_feedback", key) is not None
        if not reused:
            tasks = plan(cycle, rows, vocabulary, options)
            days = sorted({task["as_of"] for task in tasks})
            cycle.progress.note(
                f"{len(METHODS)} ways of labelling at {len(days)} dates, {cycle.periods.day(days[0])} to "
                f"{cycle.periods.day(days[-1])}, with {options.seeds} seeds each"
            )
            done = spark.sparkContext.parallelize(tasks, len(tasks)).map(measured).collect()
            cycle.lake.write_fact("delayed_feedback", key, compared(cycle, done))
        cycle.remember({"delayed_feedback": key})
        stage.made(cycle.dataset("delayed_feedback"), reused)
    return cycle.dataset("delayed_feedback")


def as_of_day(cycle: Cycle, number: int) -> float:
    """The start of a period as `exposed` counts days."""
    start = cycle.periods.origin + number * cycle.periods.length
    return start.replace(tzinfo=dt.UTC).timestamp() / DAY


def usable(cycle: Cycle, data: DelayedRows, options: Options) -> list[int]:
    """The last matured periods with exposures at whose start enough conversions among mature rows are known."""
    window, found = float(cycle.contract.label.window), []
    for number in sorted(data.store.periods):
        first, _ = data.store.periods[number]
        mature = data.exposed[:first] <= as_of_day(cycle, number) - window
        if number <= cycle.periods.last_matured and int(data.store.y[:first][mature].sum()) >= options.conversions:
            found.append(number)
    if len(found) < 2:
        raise ContractError(
            f"delayed feedback needs at least two matured periods with {options.conversions} final conversions before "
            f"them, got {len(found)}"
        )
    return found[-options.as_ofs :]


def plan(cycle: Cycle, rows: Dataset, vocabulary: Dataset, options: Options) -> list[dict[str, Any]]:
    """One task per as-of date, way and seed, those with the most rows first."""
    contract, folder = cycle.contract, str(rows.root)
    table = vocabulary.table()
    fixed = {"k": min(contract.grid.nightly.k), "epochs": options.epochs, "patience": None, "negative_rate": 1.0}
    shared = {
        "rows": folder,
        "offsets": [row["feature_id"] for row in table.to_pylist() if row["value"] is None],
        "n_features": table.num_rows,
        "min_count": contract.min_count,
        "window": float(contract.label.window),
    }
    first = contract.grid.shipping_seed
    return [
        shared
        | {"as_of": number, "day": as_of_day(cycle, number), "method": method, "seed": seed}
        | {"hyperparameters": contract.training.hyperparameters() | fixed | {"seed": seed}}
        for number in reversed(usable(cycle, DelayedRows.open(folder), options))
        for method in METHODS
        for seed in range(first, first + options.seeds)
    ]


def measured(task: dict[str, Any]) -> dict[str, Any]:
    """Train one way at one date, in a worker, and judge it: sums over the exposures of the period that begins then."""
    data, hyper = DelayedRows.open(task["rows"]), task["hyperparameters"]
    first, end = data.store.periods[task["as_of"]]
    workers.warm_up({"algorithm": "ffm", "fields": data.store.fields, "hyperparameters": hyper})
    columns = range(len(data.store.fields))
    span = [min(data.store.periods), task["as_of"] - 1]
    table, size = refolded(
        data.store, span, list(columns), np.array(task["offsets"]), task["n_features"], task["min_count"]
    )
    age, delay = task["day"] - data.exposed[:first], np.array(data.delay[:first])
    X = np.ascontiguousarray(table[data.store.X[:first]])

    def trained(labelled: Labelled) -> FFM:
        weight = labelled.weight if (labelled.weight != 1).any() else None
        return FFM(**hyper).fit(X[labelled.rows], labelled.y, sample_weight=weight, n_features=size)

    labelled = labels(task["method"], age, delay, task["window"], data.group[:first])
    model = trained(labelled)
    if task["method"] == "fake_negatives":
        p = delayed_labels.unbiased(sigmoid(model.decision_function(X)))
        model = trained(delayed_labels.fake_negatives(age, delay, task["window"], p))
    p = sigmoid(model.decision_function(table[data.store.X[first:end]]))
    y = data.store.y[first:end]
    return {name: task[name] for name in ("as_of", "method", "seed")} | {
        "n": end - first,
        "conversions": int(y.sum()),
        "sum_p": float(p.sum()),
        "sum_logloss": float(row_logloss(y, p).sum()),
        "train_rows": len(np.unique(labelled.rows)),
        "train_conversions": int(labelled.y.sum()),
    }


def labels(method: str, age: np.ndarray, delay: np.ndarray, window: float, group: np.ndarray) -> Labelled:
    """The training set of `method` at the instant that `age` and `delay` [n] are seen from."""
    if method == "importance_weights":
        return delayed_labels.importance_weights(age, delay, window, *delay_model(age, delay, window, group))
    ways = (delayed_labels.mature_only, delayed_labels.naive, delayed_labels.fake_negatives, delayed_labels.oracle)
    return {way.__name__: way for way in ways}[method](age, delay, window)


def delay_model(age: np.ndarray, delay: np.ndarray, window: float, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The share that converts within so many days as Kaplan and Meier see it now, float [groups + 1, days + 1], and
    which row of it each exposure goes by: its group's, or the last, that of all, while its group's is not known."""
    days, closed = int(np.ceil(window)), age >= window
    seen = delayed_labels.seen(age, delay, window)
    followed = np.where(closed, days, np.floor(age)).astype(np.int64)
    converted = seen & (np.floor(delay) < followed)
    left = np.where(converted, np.floor(np.where(seen, delay, 0)) + 1, followed).astype(np.int64)

    def curve(rows: np.ndarray) -> np.ndarray | None:
        pairs, n = np.unique(np.stack([left[rows], converted[rows]]), axis=1, return_counts=True)
        found = fitted(pairs[0], pairs[1].astype(bool), n, days)
        return found.converted if found.is_known else None

    everybody = curve(np.ones(len(age), bool))
    if everybody is None:
        raise ValueError("a delay model needs conversions among exposures whose window is closed, got none")
    curves = [curve(group == number) if (group == number).any() else None for number in range(int(group.max()) + 1)]
    known = np.array([found is not None for found in curves])
    shares = np.stack([everybody if found is None else found for found in [*curves, everybody]])
    return shares, np.where(known[group], group, len(curves))


def compared(cycle: Cycle, done: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of fact `delayed_feedback` from what the workers found; t intervals over the as-of dates.

    A date's sums are means over its seeds.
    """
    sums: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for result in done:
        sums[result["method"]][result["as_of"]].append(result)
    dates = sorted(sums[REFERENCE])
    means = {
        method: {name: np.array([np.mean([one[name] for one in found[date]]) for date in dates]) for name in MEASURED}
        for method, found in sums.items()
    }
    about = {
        "as_of_from": cycle.periods.day(dates[0]),
        "as_of_through": cycle.periods.day(dates[-1]),
        "n_dates": len(dates),
        "n_seeds": len({result["seed"] for result in done}),
    }
    return [
        about
        | {"method": method, "is_reference": method == REFERENCE, "is_oracle": method == "oracle"}
        | {name: int(mine[name].sum()) for name in ("n", "conversions")}
        | {name: float(mine[name].sum()) for name in ("sum_p", "sum_logloss")}
        | {name: float(mine[name].mean()) for name in ("train_rows", "train_conversions")}
        | against(mine, means[REFERENCE])
        for method, mine in ((method, means[method]) for method in METHODS)
    ]


MEASURED = ("n", "conversions", "sum_p", "sum_logloss", "train_rows", "train_conversions")


def against(mine: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Differences in logloss (per row and relative) and in calibration ratio to the reference, all arrays [dates];
    None where nobody converted."""
    loss = mine["sum_logloss"] - reference["sum_logloss"]
    found = {
        "delta_logloss": intervals.ratio(loss, mine["n"]),
        "delta_relative": intervals.ratio(loss, reference["sum_logloss"]),
    }
    if mine["conversions"].any():
        found |= {
            "calibration_ratio": intervals.calibration(mine["sum_p"], mine["conversions"]),
            "delta_calibration": intervals.ratio(mine["sum_p"] - reference["sum_p"], mine["conversions"]),
        }
    nothing = {f"calibration_ratio{end}": None for end in ("_lo", "_hi")}
    nothing |= {f"delta_calibration{end}": None for end in ("", "_lo", "_hi")}
    return nothing | {
        f"{name}{end}": value
        for name, interval in found.items()
        for end, value in (("", interval.value), ("_lo", interval.lo), ("_hi", interval.hi))
        if (name, end) != ("calibration_ratio", "")  # a mart divides the sums
    }


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("delayed-feedback"))
