"""What a release tells of its own run: the facts `runs`, `run_stages` and `release`, from what the steps remembered."""

from __future__ import annotations

import datetime as dt

from jobs import decision_log, log_facts
from jobs.cycle import Cycle
from jobs.facts import utc
from jobs.lineage import lineage

STAGES = ("start", "ingest", "encode", "train", "evaluate", "warehouse", "decide", "refit", "score", "monitor")


def write(cycle: Cycle, release_id: str) -> None:
    """Write them for `release_id`, and let the cycle stand on them."""
    state, made = cycle.state(), lineage(cycle)
    run_id = cycle.events.run_id  # as in log/runs; `publish` is a stage, so there is one
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
    wanted = ("contract", "contract_sha", "label_version", "git_sha", "lock_sha", "python", "spark", "jvm", "machine")
    wanted += ("cores", "env_hash")
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
        "data_through_day": cycle.periods.day(cycle.periods.scoring),
        "run_id": run_id,
        "verdict": state["run"]["verdict"],
        "decision_id": state["run"]["decision_id"],
        "champion_model_id": champion,
        "score_source": state["run"]["score_source"],
        "data_note": " ".join(cycle.contract.data_note.split()),
    }
    building = release | {"serving_model_id": state["run"]["serving_model_id"]}
    changes = log_facts.of_aliases(decision_log.entries(cycle.warehouse), cycle.contract.name, building)
    found = {"runs": [run], "run_stages": stages, "release": [release], "alias_changes": changes}
    cycle.write_facts(__name__, found)
