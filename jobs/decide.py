"""Job: may tonight's model be promoted? Evidence marts, then the gate, then, on GO, the refit, then the decision log.

The refit comes before the log entry: the champion the log names always has its files.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from ffm_udf import card as cards
from jobs import champions, decision_log, kept_texts, log_facts, models, privacy, train, warehouse
from jobs import gate as gates
from jobs.calibrators import serving_calibrator
from jobs.cycle import Cycle
from jobs.durable import sync_tree
from jobs.lake import LakeError
from jobs.releases import open_building
from jobs.training_plan import Options

MART = "mart.duckdb"
# What the evidence marts stand on; all of it exists before anything is decided.
EVIDENCE = (
    *("label_rates", "models", "training_curve", "period_metrics", "model_metrics", "k_comparison", "slice_metrics"),
    *("calibrator_comparison", "reliability_curve", "calibration_error", "slice_shrinkage", "shrinkage_gain"),
    *("scoring_cost", "rates", "value_periods", "value_comparison", "ingest_counts"),
    *("value_curve", "value_sensitivity", "value_by_k", "value_deciles", "auction_utility", "slice_discovery"),
    *("training_cost", "baseline_comparison", "incumbent_comparison", "test_openings", "lever_gain"),
    *("staleness_cost", "label_delay", "label_settling", "delayed_feedback"),
    *("leakage", "model_age", "model_age_effect", "domain_shift", "fairness", "fairness_proxy", "field_pairs"),
)
# Measured by commands of their own, not nightly: a cycle stands on what the contract measured last.
OCCASIONAL = ("lever_gain", "staleness_cost", "delayed_feedback")
# What a refit is made from beside the contract; the evidence must be about the same.
REFIT_FROM = ("rows", "vocabulary", "models", "predictions", "calibrators")


def build_evidence(cycle: Cycle, gate: Path | None = None) -> Path:
    """Open the release folder of this night and build the evidence marts in it, not yet visible; returns the mart.

    The gate's margins that marts need are those of `gate`; without one, of the gate that was given last.
    """
    with cycle.stage("warehouse") as stage:
        if gate is not None:
            given = {"margin_relative_cost": gates.load_gate(gate).margin_relative_cost}
            cycle.remember({}, run={"evidence_variables": given})
        for name in OCCASIONAL:
            remember_last(cycle, name)
        facts = {name: cycle.dataset(name) for name in EVIDENCE}
        building = open_building(cycle.warehouse, f"{cycle.contract.name}-{cycle.date}")
        database = building.folder / MART
        files = {name: data.files for name, data in facts.items()}
        shown = {"privacy": privacy.sign(cycle.contract)}
        variables, parsed = mart_variables(cycle), warehouse.parsed_in(cycle.warehouse)
        warehouse.build(database, files, select=warehouse.EVIDENCE, variables=variables, parsed=parsed)
        cycle.remember({}, run={"release_id": building.release_id, "refit_from": refit_from(cycle)} | shown)
        stage.rows, stage.bytes = sum(data.rows for data in facts.values()), database.stat().st_size
    return database


def mart_variables(cycle: Cycle) -> dict[str, Any]:
    """The dbt variables of both builds of this cycle's marts. Equal ones let the second use what the first parsed."""
    return (cycle.state()["run"].get("evidence_variables") or {}) | privacy.variables(cycle.contract)


def privacy_of_evidence(cycle: Cycle) -> str:
    """How the evidence marts treat people; LakeError if the contract asks for something else now."""
    asked = privacy.sign(cycle.contract)
    if asked != cycle.state()["run"].get("privacy", ""):
        raise LakeError(
            f"privacy of {cycle.contract.name} changed since the evidence marts were built: run `fieldmart warehouse`"
            " first"
        )
    return asked


def remember_last(cycle: Cycle, name: str) -> None:
    """Let the cycle stand on the contract's last fact `name` that has rows, or on an empty one."""
    folder, found = cycle.warehouse / "cycles" / cycle.contract.name, []
    for path in folder.glob("*.json"):
        key = json.loads(path.read_text())["datasets"].get(name)
        data = cycle.lake.find(name, key) if key and path.stem <= str(cycle.date) else None
        if data is not None and data.rows:
            found.append((data.manifest["written_at"], data.key))
    if found:
        cycle.remember({name: max(found)[1]})
        return
    key = cycle.lake.key(name, __name__, {}, "none")
    if cycle.lake.find(name, key) is None:
        cycle.lake.write_fact(name, key, [])
    cycle.remember({name: key})


def mart_in_building(cycle: Cycle) -> Path:
    """The mart that `build_evidence` made for this cycle; LakeError if there is none."""
    release_id = cycle.state()["run"].get("release_id", "")
    database = cycle.warehouse / "releases" / f".building-{release_id}" / MART
    if not database.exists():
        raise LakeError(f"no evidence marts for {cycle.contract.name} {cycle.date}: run `fieldmart warehouse` first")
    return database


def run(cycle: Cycle, spark: SparkSession, gate: Path, stall_timeout: float | None = None) -> decision_log.Entry:
    """Judge the evidence, refit on GO, log the decision; returns its entry. The same evidence gives the same entry."""
    policy = gates.load_gate(gate)
    with cycle.stage("decide") as stage:
        database = mart_in_building(cycle)
        registered = cycle.state()["run"].get("registered_gate_sha")
        stands_on = cycle.state()["run"].get("refit_from")
        if stands_on != refit_from(cycle):
            raise LakeError(
                f"evidence marts of {cycle.contract.name} {cycle.date} must stand on what was evaluated last, got"
                " others: run `fieldmart warehouse` first"
            )
        live = live_waivers(cycle, policy)
        found = gates.evaluate(policy, database, registered, live, cycle.contract.period.days)
        found = killed(found, policy, decision_log.entries(cycle.warehouse), cycle.contract.name, cycle.date)
        stage.rows = len(found.rules)
    promotes = None
    if found.verdict == "GO" and found.model_id:
        promotes = refit(cycle, spark, found.model_id, stall_timeout)
    name, release_id = cycle.contract.name, cycle.state()["run"].get("release_id")
    kept_texts.keep(cycle.warehouse, cycle.contract.meaning, policy.meaning)
    entry = decision_log.append_decision(
        cycle.warehouse,
        name,
        cycle.date,
        found,
        promotes,
        release_id=release_id,
        refit_from=stands_on,
        card_sha=card_sha(cycle, promotes or found.model_id),
    )
    champions.write_aliases(cycle.warehouse)
    said = {name: entry.payload[name] for name in ("verdict", "reason")}
    cycle.remember({}, run={"decision_id": entry.decision_id, **said})
    write_facts(cycle)
    return entry


def refit(cycle: Cycle, spark: SparkSession, model_id: str, stall_timeout: float | None = None) -> str:
    """Train the refit of candidate `model_id` with the calibrator that it serves with; returns its id, once it is
    safe on disk."""
    patience = stall_timeout or Options().stall_timeout
    promotes = train.refit(cycle, spark, model_id, serving_calibrator(cycle, model_id), patience)
    sync_tree(models.model_folder(cycle.warehouse, promotes))
    return promotes


def card_sha(cycle: Cycle, model_id: str | None) -> str | None:
    """Hash of a model's card, which holds those of its files: the log then vouches for the model."""
    path = models.model_folder(cycle.warehouse, model_id) / cards.NAME if model_id else None
    return cards.sha256(path) if path is not None and path.is_file() else None


def refit_from(cycle: Cycle) -> dict[str, str | None]:
    """The keys of the data sets that a refit of this cycle would be made from now."""
    datasets = cycle.state()["datasets"]
    return {name: datasets.get(name) for name in REFIT_FROM}


def last_waivers(cycle: Cycle) -> dict[str, decision_log.Entry]:
    """By rule, the waiver of the latest cycle up to this one, of several on it the last given: it replaces those before
    it, run out or not. An old date is decided again without those of later cycles."""
    given = [
        entry
        for entry in decision_log.entries(cycle.warehouse)
        if entry.kind == "waiver"
        and entry.payload["contract"] == cycle.contract.name
        and entry.payload["cycle_date"] <= cycle.date.isoformat()
    ]
    given.sort(key=lambda entry: entry.payload["cycle_date"])  # stable: within a cycle as written
    return {entry.payload["rule"]: entry for entry in given}


def live_waivers(cycle: Cycle, policy: gates.Gate) -> list[gates.Waiver]:
    """The waivers that count for this cycle: the last of a rule, unless it ran out or the rule was changed since."""
    known, found = {rule.name: rule.sha for rule in policy.rules}, []
    for rule, entry in last_waivers(cycle).items():
        said, until = entry.payload, dt.date.fromisoformat(entry.payload["until"])
        if until >= cycle.date and said.get("rule_sha") == known.get(rule, ""):
            found.append(gates.Waiver(rule, said["by"], said["why"], until))
    return found


def killed(
    found: gates.Evaluation,
    policy: gates.Gate,
    log: list[decision_log.Entry],
    contract: str,
    cycle_date: dt.date,
) -> gates.Evaluation:
    """`found`, or, where it ends a row of `kill_after` cycles without promotion and without value, the same with the
    advice to kill or rescope. A cycle has value if the gate's `value_rule` passed."""
    if policy.kill_after is None or found.verdict == "GO":
        return found
    tonight = {result.rule: result.outcome for result in found.rules}
    if tonight.get(policy.value_rule or "") == "pass":
        return found
    earlier = champions.latest_by_cycle(log, contract, cycle_date)
    tries = 1
    for entry in reversed(earlier):
        outcomes = {rule["rule"]: rule["outcome"] for rule in entry.payload["rules"]}
        is_promoted = champions.promotion_of(log, entry) is not None
        if is_promoted or outcomes.get(policy.value_rule) == "pass":
            break
        tries += 1
    if tries < policy.kill_after:
        return found
    advice = f"kill or rescope: {policy.kill_after} cycles or more without promotion and without {policy.value_rule}"
    return replace(found, reason=f"{found.reason}; {advice}", next_action="rescope")


def write_facts(cycle: Cycle) -> None:
    """The facts `decisions`, `decision_rules` and `approvals`: the log of this contract up to this cycle."""
    log = decision_log.entries(cycle.warehouse)
    decisions, rules = log_facts.of_decisions(log, cycle.contract.name, cycle.date)
    given = log_facts.of_approvals(log, cycle.contract.name, cycle.date)
    cycle.write_facts(__name__, {"decisions": decisions, "decision_rules": rules, "approvals": given})


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("decide"))
