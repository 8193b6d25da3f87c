"""Job: score the valid, calib and test rows with every candidate and turn the predictions into facts.

Predictions stay in arrays that tasks map (jobs/judged.py); what reaches the driver are sums per model, period, slice
and bin. Intervals are over test periods (jobs/intervals.py), k is compared paired by period, and scoring cost is
measured in a worker.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from ffm_udf import clustered, model_metrics, scoring
from jobs import (
    decision_log,
    domain_shift,
    fairness,
    field_pairs,
    incumbent,
    intervals,
    judged,
    kept_texts,
    label_delay,
    leakage,
    log_facts,
    model_age,
    models,
    reliability,
    shrinkage,
    slices,
    value,
)
from jobs.calibrators import calibrators, comparison
from jobs.comparison import (
    ENOUGH_SEEDS,
    Decided,
    compare_baselines,
    compare_incumbent,
    compare_k,
    shown,
    with_intervals,
)
from jobs.cycle import Cycle
from jobs.gate import Gate, infeasible, load_gate
from jobs.incumbent import Incumbent
from jobs.judged import Entrant, Judged
from jobs.lake import sha256_json
from jobs.lineage import features
from jobs.policies import Rates, Value, load_rates, load_value
from jobs.training_tasks import spans

COST_ROWS, COST_REPEATS = 200_000, 7


@dataclass(frozen=True)
class Policies:
    """What people decided before the night: limits and margins, prices, what a contact is worth."""

    gate: Gate
    rates: Rates
    value: Value


def run(cycle: Cycle, spark: SparkSession, gate: Path, rates: Path, value: Path) -> None:
    """Make the evaluation facts of this cycle."""
    cards = candidates(cycle)
    window = [str(day) for day in test_window(cycle)]
    if not cycle.has("period_metrics") or cycle.state()["run"].get("registered_for") != window:
        # Thresholds are registered before anyone can have seen a result on these periods.
        cycle.remember({}, run={"registered_gate_sha": load_gate(gate).sha, "registered_for": window})
    kept_texts.keep(cycle.warehouse, cycle.contract.meaning, load_gate(gate).meaning, kept_texts.lock())
    with cycle.stage("evaluate") as stage:
        policies = Policies(load_gate(gate), load_rates(rates), load_value(value))
        held = incumbent.find(cycle)
        rows, reused = predict(cycle, spark, cards, held)
        stage.made(rows.logits, reused)
        stage.rows = len(rows.ids) * len(rows)
        cycle.progress.note(f"{len(rows.ids)} models scored on {len(rows):,} rows of valid, calib and test")
        keys = facts_of(cycle, rows, cards, held, policies)
        keys["rates"] = cycle.lake.key("rates", __name__, {}, policies.rates.sha)
        if cycle.lake.find("rates", keys["rates"]) is None:
            priced = policies.rates.model_dump() | {"rates_sha": policies.rates.sha}
            cycle.lake.write_fact("rates", keys["rates"], [priced])
        cycle.remember(keys)
        cycle.progress.note(told(cycle.dataset("k_comparison").table().to_pylist()))
        log_sweep(cycle, cards, policies.gate.margin_relative_logloss)
        write_openings(cycle)
        label_delay.run(cycle, spark)


def facts_of(
    cycle: Cycle, rows: Judged, cards: list[dict[str, Any]], held: Incumbent | None, policies: Policies
) -> dict[str, str]:
    """Keys of the evaluation facts, which are measured unless all of them are there already."""
    margin = policies.gate.margin_relative_logloss
    swept = last_sweep(cycle, cards, margin)
    params = {
        "models": [card["model_id"] for card in cards],
        "incumbent": held and held.entrant.model_id,
        "gate": policies.gate.sha,
        "rates": policies.rates.sha,
        "value": policies.value.sha,
        "slices": cycle.contract.part("slices", "slice_min_n", "prior", "fairness"),
        "shipping_seed": cycle.contract.grid.shipping_seed,
        "last_sweep": asdict(swept) if swept else None,
    }
    keys = {name: cycle.lake.key(name, __name__, {"predictions": rows.predictions.content}, params) for name in FACTS}
    if not all(cycle.lake.find(name, key) for name, key in keys.items()):
        found = measure(rows, cards, held, policies, swept)
        for name, key in keys.items():
            cycle.lake.write_fact(name, key, found[name])
    return keys


def told(compared: list[dict[str, Any]]) -> str:
    """The comparison of k in a line."""
    row = shown(compared)
    if not row["is_verdict"]:
        return "no k keeps the gate's limits: " + "; ".join(f"k = {r['k']}: {r['infeasible_reason']}" for r in compared)
    how = "provisional, " if row["is_provisional"] else ""
    return f"k = {row['k']}: logloss {row['logloss']:.5f}, best k = {row['best_k']} ({how}{row['n_periods']} periods)"


def candidates(cycle: Cycle) -> list[dict[str, Any]]:
    """Cards of the compared models, by k, algorithm and seed, each with its `rehearsal_id`."""
    rows = cycle.dataset("models").table().to_pylist()
    rehearsals = {row["candidate_id"]: row["model_id"] for row in rows if row["role"] == "rehearsal"}
    return [
        models.read_card(cycle.warehouse, row["model_id"]) | {"rehearsal_id": rehearsals[row["model_id"]]}
        for row in sorted(rows, key=lambda r: (r["k"], r["algorithm"], r["seed"]))
        if row["role"] == "candidate"
    ]


def predict(
    cycle: Cycle, spark: SparkSession, cards: list[dict[str, Any]], held: Incumbent | None
) -> tuple[Judged, bool]:
    """What every candidate, and the incumbent after them, says of the rows of valid, calib and test.

    The candidate scores valid and calib, its rehearsal, which has learned from them, the test rows.
    A night learns its calibrator on the periods just before the one it scores, so every test period gets the
    calibrator of the `calib` periods before it (rolling origin), learned from logits of rows no candidate trained on.
    """

    def folder(model_id: str) -> str:
        return str(models.model_folder(cycle.warehouse, model_id).resolve())

    entrants = [Entrant(card["model_id"], folder(card["model_id"]), folder(card["rehearsal_id"])) for card in cards]
    # A night that is run again may find its own earlier candidate as the champion: it is there already.
    entrants += [held.entrant] if held and held.entrant.model_id not in {e.model_id for e in entrants} else []
    ids = [entrant.model_id for entrant in entrants]
    rows = judged.make_rows(cycle, spark)
    logits, _ = judged.make_logits(cycle, spark, rows, entrants, lambda: open_test(cycle, len(entrants)))
    calibrators(cycle, spark, rows, logits, entrants)
    _, reused = judged.make_predictions(cycle, rows, logits, ids)
    return judged.opened(cycle, spark), reused


def write_openings(cycle: Cycle) -> None:
    """The fact `test_openings` of this contract up to this cycle."""
    rows = log_facts.of_openings(decision_log.entries(cycle.warehouse), cycle.contract.name, cycle.date)
    cycle.write_facts(__name__, {"test_openings": rows})


def terms_sha(cycle: Cycle, cards: list[dict[str, Any]], margin: float) -> str:
    """What a verdict on k rests on besides the rows and the k: fields, label, margin, and all that is frozen while k
    varies, as the models had it."""
    tasks = [card["task"] for card in cards if card["algorithm"] == "ffm"]
    frozen = {name: tasks[0][name] for name in ("window", "half_life")} | {"warm": tasks[0]["init"] is not None}
    frozen |= {n: v for n, v in tasks[0]["hyperparameters"].items() if n not in ("k", "seed")}
    return sha256_json([features(cycle.contract), cycle.contract.part("min_count", "label"), frozen, margin])


def last_sweep(cycle: Cycle, cards: list[dict[str, Any]], margin: float) -> Decided | None:
    """The verdict that a night with few seeds goes by; a night with enough of them decides itself."""
    seeds = {card["task"]["hyperparameters"]["seed"] for card in cards if card["algorithm"] == "ffm"}
    if len(seeds) >= ENOUGH_SEEDS:
        return None
    terms = terms_sha(cycle, cards, margin)
    found = decision_log.last_sweep(cycle.warehouse, cycle.contract.name, cycle.date, terms)
    return Decided(found["k"], dt.date.fromisoformat(found["cycle_date"])) if found else None


def log_sweep(cycle: Cycle, cards: list[dict[str, Any]], margin: float) -> None:
    """Log the verdict of a night with enough seeds; later nights with fewer keep it."""
    rows = cycle.dataset("k_comparison").table().to_pylist()
    chosen = next((row for row in rows if row["is_verdict"]), None)
    if chosen is None or chosen["n_seeds"] < ENOUGH_SEEDS:
        return
    said = {name: chosen[name] for name in ("k", "best_k", "n_seeds", "n_periods", "margin")}
    about = {
        "contract": cycle.contract.name,
        "cycle_date": str(cycle.date),
        "terms_sha": terms_sha(cycle, cards, margin),
    }
    decision_log.append_sweep(cycle.warehouse, {**about, **said, "ks": [row["k"] for row in rows]})


def test_window(cycle: Cycle) -> tuple[dt.date, dt.date]:
    """First and last test period."""
    rows = cycle.dataset("label_rates").table().to_pylist()
    days = [row["period"] for row in rows if row["split"] == "test"]
    return min(days), max(days)


def open_test(cycle: Cycle, scored: int) -> None:
    """Log that the test periods were looked at: who looks often enough finds something by chance."""
    opened = {"contract": cycle.contract.name, "cycle_date": str(cycle.date), "models": scored}
    decision_log.append_opening(cycle.warehouse, opened, *test_window(cycle))


def measure(
    rows: Judged, cards: list[dict[str, Any]], held: Incumbent | None, policies: Policies, swept: Decided | None
) -> dict[str, list[dict[str, Any]]]:
    """All evaluation facts; slices, bins, costs and value of the seed that ships."""
    cycle, margin, seed = rows.cycle, policies.gate.margin_relative_logloss, rows.cycle.contract.grid.shipping_seed
    period_sums, areas = by_period(rows, policies.value.budget_top_n)
    known = {card["model_id"] for card in cards}
    ships = [card for card in cards if card["task"]["hyperparameters"].get("seed", seed) == seed]
    places = {card["model_id"]: rows.place_of(card["model_id"]) for card in ships}
    costs = scoring_cost(rows, ships, held)
    impossible = infeasible(policies.gate, policies.rates, cycle.dataset("models").table().to_pylist(), costs)
    compared = compare_k(period_sums, cards, margin, seed, swept, impossible)
    chosen = shown(compared)["model_id"]
    prior = next(card["model_id"] for card in cards if card["algorithm"] == "prior")
    champion = rows.place_of(held.entrant.model_id) if held else None
    ours = [row for row in period_sums if row["model_id"] in known]
    return {
        "period_metrics": ours,
        "model_metrics": with_intervals(ours, areas),
        "k_comparison": clustered_by_entity(rows, cards, compared),
        "incumbent_comparison": [against_incumbent(rows, period_sums, chosen, held, prior, cards, margin)],
        "baseline_comparison": compare_baselines(ours, cards, chosen),
        "scoring_cost": costs,
        **in_depth(rows, places, chosen, rows.place_of(prior), champion, policies.value),
    }


def in_depth(
    rows: Judged, places: dict[str, int], chosen: str, prior: int, champion: int | None, policy: Value
) -> dict[str, list[dict[str, Any]]]:
    """What is looked at beyond the comparison: of every model of the seed that ships (`places` by id) or of the
    `chosen` one. The parts do not need each other, and most have fewer tasks than there are cores."""
    place = rows.place_of(chosen)
    parts: list[Callable[[], dict[str, list[dict[str, Any]]]]] = [
        lambda: value.value_facts(rows, place, prior, champion, policy),
        lambda: leakage.leakage_facts(rows, place),
        lambda: slices.slice_facts(rows, places, chosen),
        lambda: {"calibrator_comparison": comparison(rows, places)},
        lambda: reliability.reliability_facts(rows, places),
        lambda: domain_shift.domain_shift_facts(rows),
        lambda: fairness.fairness_facts(rows, place, policy.budget_top_n),
        lambda: field_pairs.field_pairs_facts(rows, list(places)),
        lambda: shrinkage.shrinkage_facts(rows, chosen),
        lambda: model_age.model_age_facts(rows, place),
    ]
    with ThreadPoolExecutor(len(parts)) as pool:
        return {name: found for part in pool.map(lambda part: part(), parts) for name, found in part.items()}


FACTS = (
    *("period_metrics", "model_metrics", "k_comparison", "incumbent_comparison", "baseline_comparison"),
    *("scoring_cost", "calibrator_comparison", "reliability_curve", "calibration_error"),
    *("slice_shrinkage", "shrinkage_gain", "leakage", "model_age", "model_age_effect", "domain_shift"),
    *("fairness", "fairness_proxy", "field_pairs"),
    *slices.FACTS,
    *value.FACTS,
)


def by_period(
    rows: Judged, top_n: int
) -> tuple[list[dict[str, Any]], dict[tuple[str, str], tuple[float | None, float | None]]]:
    """Rows of fact `period_metrics`, and AUC and PR-AUC by model and part; `top_n`: of the ranking metrics."""
    tasks = [rows.task(place=place, top_n=top_n) for place in range(len(rows.ids))]
    sums, areas = [], {}
    for model_id, found in zip(rows.ids, rows.run(model_metrics.of_model, tasks), strict=True):
        for row in found["periods"]:
            day = rows.cycle.periods.day(row.pop("period_no"))
            sums.append({"model_id": model_id, "period": day, "top_n": top_n, **row})
        areas |= {(model_id, row["split"]): (row["auc"], row["pr_auc"]) for row in found["parts"]}
    return sorted(sums, key=lambda row: (row["period"], rows.place_of(row["model_id"]))), areas


def clustered_by_entity(
    rows: Judged, cards: list[dict[str, Any]], compared: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """`compared` with the intervals that cluster the rows by entity instead of by period."""
    seeds: dict[int, list[int]] = {}
    for card in cards:
        if card["algorithm"] == "ffm":
            seeds.setdefault(card["task"]["hyperparameters"]["k"], []).append(rows.place_of(card["model_id"]))
    others = [row for row in compared if row["k"] != row["best_k"]]
    tasks = [rows.task(mine=seeds[row["k"]], theirs=seeds[row["best_k"]]) for row in others]
    results = rows.run(clustered.difference, tasks)
    found = {row["k"]: entity_interval(result) for row, result in zip(others, results, strict=True)}
    return [row | found.get(row["k"], {"delta_lo_entity": 0.0, "delta_hi_entity": 0.0}) for row in compared]


def entity_interval(found: dict[str, float]) -> dict[str, float | None]:
    """The 95 % interval of a result of `clustered.difference`; none with a single entity."""
    interval = intervals.combined(
        found["delta"], [(found["se"], int(found["clusters"]) - 1)] if found["clusters"] > 1 else []
    )
    return {"delta_lo_entity": interval.lo, "delta_hi_entity": interval.hi}


def against_incumbent(
    rows: Judged,
    period_sums: Sequence[dict[str, Any]],
    challenger: str,
    held: Incumbent | None,
    prior: str,
    cards: list[dict[str, Any]],
    margin: float,
) -> dict[str, Any]:
    """The row of fact `incumbent_comparison`: the chosen model against the champion, or against the prior, which serves
    while there is none."""
    incumbent_id = held.entrant.model_id if held else prior
    card = held.card if held else next(card for card in cards if card["model_id"] == prior)
    ours = next(card for card in cards if card["model_id"] == challenger)
    task = rows.task(mine=[rows.place_of(challenger)], theirs=[rows.place_of(incumbent_id)])
    [by_entity] = rows.run(clustered.difference, [task])
    return {
        "challenger_model_id": challenger,
        "challenger_k": ours["task"]["hyperparameters"]["k"],
        "incumbent_model_id": incumbent_id,
        "incumbent_algorithm": card["algorithm"],
        "incumbent_k": card["task"]["hyperparameters"].get("k", 0),
        "incumbent_source": "champion" if held else "prior",
        **compare_incumbent(period_sums, challenger, incumbent_id, margin),
        **entity_interval(by_entity),
    }


def scoring_cost(rows: Judged, cards: list[dict[str, Any]], held: Incumbent | None) -> list[dict[str, Any]]:
    """Rows of fact `scoring_cost`: every model scores the same block of test rows, one after the other."""
    cycle = rows.cycle
    same: dict[str, Any] = {"rows": str(cycle.dataset("rows").root), "periods": spans(cycle)["test"]}
    same |= {"limit": COST_ROWS, "repeats": COST_REPEATS}
    tasks: list[dict[str, Any]] = [
        {"folder": str(models.model_folder(cycle.warehouse, card["model_id"]).resolve()), "vocabularies": None}
        for card in cards
    ]
    if held and held.card["model_id"] not in {card["model_id"] for card in cards}:
        cards = [*cards, held.card]
        tasks.append({"folder": held.entrant.candidate, "vocabularies": judged.vocabularies(cycle, held.entrant)})
    # One partition: models that share the memory bus would measure each other.
    tasks = [same | task for task in tasks]
    measured = rows.spark.sparkContext.parallelize(tasks, 1).map(scoring.scoring_cost).collect()
    return [
        {"model_id": card["model_id"], "k": card["task"]["hyperparameters"].get("k", 0), **row}
        for card, found in zip(cards, measured, strict=True)
        for row in found
    ]


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("evaluate"))
