"""Job: finish the marts, audit them, publish the release. HOLD and NO-GO publish too, with the champion that was."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from jobs import decide, facts, release_audits, releases, score_tree, vectors, warehouse
from jobs.cycle import Cycle
from jobs.decide import utc
from jobs.lake import sha256_json
from jobs.lineage import lineage

STAGES = ("ingest", "encode", "train", "evaluate", "warehouse", "decide", "refit", "score", "monitor")


def run(cycle: Cycle, audits: Path) -> releases.Release:
    """Build the rest of the marts beside the evidence, audit, publish; returns the current release.

    Raises AuditError if an audit fails: the last release stays what readers see.
    """
    with cycle.stage("publish") as stage:
        database = decide.mart_in_building(cycle)
        state = cycle.state()
        _write_run_facts(cycle, state["run"]["release_id"])
        names = [name for name in facts.FACTS if cycle.has(name)]
        files = {name: cycle.dataset(name).files for name in names}

        warehouse.build(database, files, exclude=warehouse.EVIDENCE)
        marts = warehouse.marts(database)
        checked = release_audits.audit(database, release_audits.load_audits(audits), marts, state["run"]["release_id"])
        warehouse.export_marts(database, database.parent / "marts")
        manifest = {
            "contract": cycle.contract.name,
            "cycle_date": str(cycle.date),
            "content_sha256": warehouse.content_hash(database),
            "decision_id": state["run"]["decision_id"],
            "data_through": cycle.periods.data_through.isoformat(),
            "datasets": json.dumps(state["datasets"], sort_keys=True),
        }
        release = releases.publish(cycle.warehouse, state["run"]["release_id"], manifest, checked)
        score_tree.point(cycle.warehouse, cycle.contract.name, cycle.date, cycle.dataset("scores"))
        vectors.publish(cycle)
        stage.rows = sum(cycle.dataset(name).rows for name in names)
    return release


def _write_run_facts(cycle: Cycle, release_id: str) -> None:
    """The facts `runs`, `run_stages` and `release`, from what the steps remembered."""
    state, made = cycle.state(), lineage(cycle)
    now = dt.datetime.now(dt.UTC)
    run_id = f"{cycle.contract.name}-{cycle.date}-{now:%Y%m%dT%H%M%S}"
    stages = [
        {
            "run_id": run_id,
            "seq": seq,
            "stage": name,
            **record,
            "started_at": dt.datetime.fromisoformat(record["started_at"]),
        }
        for seq, (name, record) in enumerate(
            ((name, state["stages"][name]) for name in STAGES if name in state["stages"]), start=1
        )
    ]
    started = min(stage["started_at"] for stage in stages)
    data_through = utc(cycle.periods.data_through)
    wanted = ("contract", "contract_sha", "label_version", "git_sha", "lock_sha", "python", "spark", "machine", "cores")
    run = {name: made[name] for name in wanted} | {
        "run_id": run_id,
        "cycle_date": cycle.date,
        "data_through": data_through,
        "snapshot_id": cycle.dataset("exposures").key,
        "examples_id": cycle.dataset("examples").key,
        "started_at": started,
    }
    champion = state["run"]["serving_model_id"] if state["run"]["score_source"] == "model" else None
    release = {
        "release_id": release_id,
        "contract": cycle.contract.name,
        "cycle_date": cycle.date,
        "data_through": data_through,
        "run_id": run_id,
        "verdict": state["run"]["verdict"],
        "decision_id": state["run"]["decision_id"],
        "champion_model_id": champion,
        "score_source": state["run"]["score_source"],
        "data_note": " ".join(cycle.contract.data_note.split()),
    }
    for name, rows in (("runs", [run]), ("run_stages", stages), ("release", [release])):
        key = cycle.lake.key(name, __name__, {"rows": sha256_json(rows)}, None)
        if cycle.lake.find(name, key) is None:
            cycle.lake.write_fact(name, key, rows)
        cycle.remember({name: key})


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("publish"))
