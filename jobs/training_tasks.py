"""The training tasks of a cycle: which rows, hyperparameters and folder. A model's id is a hash of all that."""

from __future__ import annotations

import datetime as dt
from typing import Any

from ffm_udf import card as cards
from ffm_udf.crossed_logistic import buckets_for
from ffm_udf.layout import Layout
from jobs import models, row_arrays
from jobs.contract import Contract
from jobs.cycle import Cycle
from jobs.encode import base_rate
from jobs.lake import Dataset, code_sha, sha256_json
from jobs.lineage import features, lineage
from jobs.training_plan import SWEEP, Options, TrainError, scoring_bytes

# The code a model depends on: that of the workers and the kernels.
CODE = {"sweep": "ffm_udf.workers", "mixing": "jobs.mixing"}
FM_K = (8, 16)  # of the baseline: one vector per feature instead of one per field leaves room for more factors

type Parts = dict[str, list[int] | None]  # first and last period of train, valid and calib


def spans(cycle: Cycle) -> dict[str, list[int]]:
    """First and last period of each part of the split; the training part is cut to the contract's window."""
    rows = cycle.dataset("label_rates").table().to_pylist()
    found: dict[str, list[int]] = {}
    for row in rows:
        number = cycle.periods.number(row["period"])
        ends = found.setdefault(row["split"], [number, number])
        found[row["split"]] = [min(ends[0], number), max(ends[1], number)]
    return found | {"train": windowed(cycle.contract.training.window, *found["train"])}


def rehearsed_through(cycle: Cycle) -> int:
    """The last period whose labels are final when the test starts: what a rehearsal may learn from."""
    ends = spans(cycle)
    return min(ends["calib"][1], ends["test"][0] - 1 - cycle.periods.maturity)


def windowed(window: int | None, first: int, last: int) -> list[int]:
    """The span first..last, or its last `window` periods."""
    return [first if window is None else max(first, last - window + 1), last]


def candidates(cycle: Cycle, options: Options, strategy: dict[str, Any]) -> list[dict[str, Any]]:
    """One task per model of the grid, the most expensive first so that no core waits for it alone at the end: baselines
    that tune themselves, then FFM by falling k."""
    contract = cycle.contract
    grid = contract.grid.sweep if options.sweep else contract.grid.nightly
    ends = spans(cycle)
    parts: Parts = {part: ends[part] for part in ("train", "valid", "calib")}
    frozen = {**contract.training.hyperparameters(), "keep_before_best": True}
    ffm = [{"k": k, "seed": seed, **frozen} for k in sorted(grid.k, reverse=True) for seed in grid.seeds]
    starts = earlier(cycle, options.init) if options.init else {}
    tasks = [
        task(cycle, "ffm", "candidate", hyper, parts, strategy=strategy, init=starts.get((hyper["k"], hyper["seed"])))
        for hyper in ffm
    ]
    lacking = sorted({(hyper["k"], hyper["seed"]) for hyper in ffm} - starts.keys())
    if options.init and lacking:
        raise TrainError(f"init must be a cycle with a candidate of every k and seed, {options.init} lacks {lacking}")
    order = sorted(grid.baselines, key=("lightgbm", "lr", "lr_cross", "fm").index)
    own = [task(cycle, name, "candidate", hyper, parts) for name in order for hyper in baseline_parameters(cycle, name)]
    return [*own, *tasks, task(cycle, "prior", "candidate", prior_parameters(contract), parts)]


def prior_parameters(contract: Contract) -> dict[str, Any]:
    names, prior = contract.field_names, contract.prior
    levels = [names.index(name) for name in prior.candidate_levels]
    return {"levels": levels, "entity": names.index(prior.entity), "strength": prior.strength}


def baseline_parameters(cycle: Cycle, algorithm: str) -> list[dict[str, Any]]:
    """Hyperparameters of a baseline: its own defaults, tuned on valid by itself; an FM shares the frozen block."""
    contract = cycle.contract
    seed = {"seed": contract.grid.shipping_seed}
    if algorithm == "fm":
        frozen = contract.training.model_dump(include={"eta", "l2", "epochs", "patience"})
        return [{"k": k, **seed, **frozen} for k in FM_K]
    if algorithm == "lr_cross":  # as many bytes as the largest FFM of the nightly
        features = cycle.dataset("vocabulary").rows
        size = Layout(max(contract.grid.nightly.k), len(contract.fields), features, None)
        return [{"buckets": buckets_for(scoring_bytes(size), features), **seed}]
    return [seed] if algorithm == "lightgbm" else [{}]


def earlier(cycle: Cycle, date: str) -> dict[tuple[int, int], dict[str, Any]]:
    """By k and seed, what to start from: the pre-mature epochs of the candidates of the cycle of `date`."""
    try:
        before = dt.date.fromisoformat(date)
    except ValueError:
        raise TrainError(f"init must be the date of an earlier cycle, YYYY-MM-DD, got {date!r}") from None
    if before >= cycle.date:
        raise TrainError(f"init must be earlier than the cycle's date {cycle.date}, got {before}")
    other, last = Cycle(cycle.contract, before, cycle.warehouse, cycle.progress), spans(cycle)["train"][1]
    found = {}
    for row in other.dataset("models").table().to_pylist():
        folder = models.model_folder(cycle.warehouse, row["model_id"])
        if row["role"] != "candidate" or not (folder / cards.START).is_dir():
            continue
        card = models.read_card(cycle.warehouse, row["model_id"])
        if card["lineage"]["features_sha"] != sha256_json(features(cycle.contract)):
            raise TrainError(f"init {before} was trained on other fields than those of contract {cycle.contract.name}")
        if card["task"]["train"][1] > last:
            seen, end = (cycle.periods.day(number) for number in (card["task"]["train"][1], last))
            raise TrainError(f"init {before} must not have learned from later periods, got {seen}; training ends {end}")
        old = cycle.lake.get("vocabulary", card["lineage"]["vocabulary"]["key"])
        found[row["k"], row["seed"]] = {
            "model_id": row["model_id"],
            "folder": str(folder.resolve()),
            "old": old.only_file,
            "new": cycle.dataset("vocabulary").only_file,
        }
    return found


def repeated(
    cycle: Cycle,
    card: dict[str, Any],
    role: str,
    through: int,
    calibrator: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The task that trains a candidate again through period `through`, with the epochs or rounds it found on valid and
    the window, half-life and start that it had, whatever the contract says by now."""
    known, first = card["task"], min(row_arrays.opened(cycle).periods)
    calib = spans(cycle)["calib"]
    rows = {"window": known["window"], "half_life": known["half_life"]}
    return task(
        cycle,
        card["algorithm"],
        role,
        card["refit_hyperparameters"],
        {"train": windowed(known["window"], first, through), "valid": None, "calib": None},
        rows=rows,
        strategy=card["strategy"],
        init=known["init"],
        calibrator=calibrator or card["calibrator"],
        level=[through - (calib[1] - calib[0]), through],
        candidate_id=card["model_id"],
    )


def task(
    cycle: Cycle,
    algorithm: str,
    role: str,
    hyperparameters: dict[str, Any],
    parts: Parts,
    rows: dict[str, Any] | None = None,
    strategy: dict[str, Any] = SWEEP,
    init: dict[str, Any] | None = None,
    calibrator: dict[str, Any] | None = None,
    level: list[int] | None = None,
    candidate_id: str | None = None,
) -> dict[str, Any]:
    """A training task (ffm_udf/workers.py says what is in it); its id is known before it is trained. `rows`: window and
    half-life, by default the contract's."""
    arrays, vocabulary, links = cycle.dataset("rows"), cycle.dataset("vocabulary"), lineage_of(cycle, parts["train"])
    rows = rows or cycle.contract.training.model_dump(include={"window", "half_life"})
    identity: list[Any] = [arrays.content, vocabulary.content, parts, algorithm, role, hyperparameters, rows, strategy]
    identity += [init and init["model_id"], calibrator, level, candidate_id, code_sha(CODE[strategy["way"]])]
    identity += [links[name] for name in ("features_sha", "lock_sha")]
    given = [
        f"{letter}{hyperparameters[name]}" for letter, name in (("k", "k"), ("s", "seed")) if name in hyperparameters
    ]
    model_id = "-".join([algorithm, *given, role, sha256_json(identity)[:12]])
    return {
        "model_id": model_id,
        "algorithm": algorithm,
        "role": role,
        "candidate_id": candidate_id,
        "folder": str(models.model_folder(cycle.warehouse, model_id).resolve()),
        "rows": str(arrays.root),
        "rows_key": arrays.key,
        "fields": cycle.contract.field_names,
        "n_features": vocabulary.rows,
        **parts,
        "hyperparameters": hyperparameters,
        **rows,
        "init": init,
        "ordered": ordered(cycle.contract, vocabulary) if algorithm == "lightgbm" else None,
        "strategy": strategy,
        "calibrator": calibrator,
        "level": level,
        "lineage": links,
    }


def ordered(contract: Contract, vocabulary: Dataset) -> dict[str, Any]:
    """Where a worker finds the numbers behind the ids of fields whose values have an order."""
    by_transform = {
        name: [rule.name for rule in contract.fields if rule.transform == name] for name in ("history", "log2")
    }
    return {"vocabulary": vocabulary.only_file, **by_transform}


def lineage_of(cycle: Cycle, train: list[int] | None) -> dict[str, Any]:
    """What a model was made from: data sets by key and content, code, lock, contract, machine."""
    sources = {"snapshot": "exposures", "examples": "examples", "rows": "rows", "vocabulary": "vocabulary"}
    found = {name: cycle.dataset(source) for name, source in sources.items()}
    first, last = train or (0, 0)
    return lineage(cycle) | {
        **{name: {"key": data.key, "content": data.content} for name, data in found.items()},
        "train_from": str(cycle.periods.day(first)),
        "train_through": str(cycle.periods.day(last)),
        "n_features": found["vocabulary"].rows,
        "base_rate": base_rate(cycle.dataset("label_rates").table()),
    }
