"""Job: may tonight's model be promoted? Evidence marts, then the gate, then, on GO, the refit, then the decision log.

The refit comes before the log entry: the champion the log names always has its files.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from pyspark.sql import SparkSession

from jobs import decision_log, models, train, warehouse
from jobs import gate as gates
from jobs.calibrators import serving_calibrator
from jobs.cycle import Cycle
from jobs.durable import sync_tree
from jobs.lake import LakeError, sha256_json
from jobs.releases import open_building
from jobs.training_plan import Options

MART = "mart.duckdb"
# What the evidence marts stand on; all of it exists before anything is decided.
EVIDENCE = (
    *("label_rates", "models", "training_curve", "period_metrics", "model_metrics", "k_comparison", "slice_metrics"),
    *("calibration_bins", "scoring_cost", "rates", "value_periods", "value_comparison", "ingest_counts"),
    *("training_cost", "baseline_comparison", "test_openings", "lever_gain"),
    "staleness_cost",
)
# Measured by commands of their own, not nightly: a cycle stands on what the contract measured last.
OCCASIONAL = ("lever_gain", "staleness_cost")


def build_evidence(cycle: Cycle) -> Path:
    """Open the release folder of this night and build the evidence marts in it, not yet visible; returns the mart."""
    with cycle.stage("warehouse") as stage:
        for name in OCCASIONAL:
            remember_last(cycle, name)
        facts = {name: cycle.dataset(name) for name in EVIDENCE}
        building = open_building(cycle.warehouse, f"{cycle.contract.name}-{cycle.date}")
        database = building.folder / MART
        warehouse.build(database, {name: data.files for name, data in facts.items()}, select=warehouse.EVIDENCE)
        cycle.remember({}, run={"release_id": building.release_id})
        stage.rows, stage.bytes = sum(data.rows for data in facts.values()), database.stat().st_size
    return database


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
        found = gates.evaluate(policy, database, cycle.state()["run"].get("registered_gate_sha"))
        stage.rows = len(found.rules)
    promotes = None
    if found.verdict == "GO" and found.model_id:
        patience = stall_timeout or Options().stall_timeout
        promotes = train.refit(cycle, spark, found.model_id, serving_calibrator(cycle, found.model_id), patience)
        sync_tree(models.model_folder(cycle.warehouse, promotes))
    entry = decision_log.append_decision(cycle.warehouse, cycle.contract.name, cycle.date, found, promotes)
    decision_log.write_aliases(cycle.warehouse)
    said = {name: entry.payload[name] for name in ("verdict", "reason")}
    cycle.remember({}, run={"decision_id": entry.decision_id, **said})
    write_facts(cycle)
    return entry


def write_facts(cycle: Cycle) -> None:
    """The facts `decisions` and `decision_rules`: the log of this contract up to this cycle."""
    log = decision_log.entries(cycle.warehouse)
    decisions, rules = decision_log.to_facts(log, cycle.contract.name, cycle.date)
    for name, rows in (("decisions", decisions), ("decision_rules", rules)):
        key = cycle.lake.key(name, __name__, {"rows": sha256_json(rows)}, None)
        if cycle.lake.find(name, key) is None:
            cycle.lake.write_fact(name, key, rows)
        cycle.remember({name: key})


def utc(moment: dt.datetime) -> dt.datetime:
    """An aware instant as the naive UTC timestamp that facts hold."""
    return moment.astimezone(dt.UTC).replace(tzinfo=None)


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("decide"))
