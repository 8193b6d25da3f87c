"""Job: finish the marts, audit them, publish the release. HOLD and NO-GO publish too, with the champion that was."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from jobs import decide, facts, release_audits, releases, served_links, warehouse
from jobs.cycle import Cycle
from jobs.decide import utc
from jobs.lake import LakeError, sha256_json
from jobs.lineage import lineage

STAGES = ("ingest", "encode", "train", "evaluate", "warehouse", "decide", "refit", "score", "monitor")
OF_THE_RUN = ("runs", "run_stages", "release")


def run(cycle: Cycle, audits: Path) -> releases.Release:
    """Build the rest of the marts beside the evidence, audit, publish; returns the cycle's release.

    Where that is published already and nothing has changed since, nothing is built: what a crash left undone of its
    publication is done. Raises AuditError if an audit fails: the last release stays what readers see.
    """
    done = _done(cycle)
    return _publish(cycle, audits) if done is None else _finish(cycle, done)


def _done(cycle: Cycle) -> releases.Release | None:
    """The release that holds what the cycle stands on; None if there is something to publish.

    If the evidence is still that of the release, but not what came after, the evidence marts are built again.
    """
    run = cycle.state()["run"]
    if "release_id" not in run or _is_building(cycle):
        return None
    known = {r.release_id: r for r in releases.list_releases(cycle.warehouse) if _is_of(r, cycle)}
    # A build that said the same as an earlier release was dropped, and readers pointed to that one.
    pointed = releases.last_pointed(cycle.warehouse, cycle.contract.name)
    candidates = [known[name] for name in (run["release_id"], run.get("published_id"), pointed) if name in known]
    for release in candidates:
        if not _changed(cycle, release):
            return release
    if candidates:
        _rebuild_evidence(cycle, candidates[0])
    return None


def _is_building(cycle: Cycle) -> bool:
    try:
        return decide.mart_in_building(cycle).exists()
    except LakeError:
        return False


def _rebuild_evidence(cycle: Cycle, release: releases.Release) -> None:
    """Build the evidence marts once more; LakeError if they would not be those that the decision was made on."""
    changed = _changed(cycle, release) & {*decide.EVIDENCE, "decision_id"}
    if changed:
        raise LakeError(
            f"{', '.join(sorted(changed))} of {cycle.contract.name} {cycle.date} changed since {release.release_id} was"
            " published: run `fieldmart warehouse` and `fieldmart decide` first"
        )
    decide.build_evidence(cycle)


def _is_of(release: releases.Release, cycle: Cycle) -> bool:
    named = (release.manifest["contract"], release.manifest.get("cycle_date"))
    return named == (cycle.contract.name, str(cycle.date))


def _changed(cycle: Cycle, release: releases.Release) -> set[str]:
    """What the cycle stands on now and `release` was not made of."""
    run = cycle.state()["run"]
    if run.get("published_id") == release.release_id:
        before = run["published"]
    else:
        before = _content(json.loads(release.manifest["datasets"]), release.manifest["decision_id"])
    now = _content(cycle.state()["datasets"], run.get("decision_id", ""))
    return {name for name in {*before, *now} if before.get(name) != now.get(name)}


def _content(datasets: dict[str, str], decision_id: str) -> dict[str, str]:
    """What two publications have in common that publish the same: all but what tells of the run itself."""
    return {name: key for name, key in datasets.items() if name not in OF_THE_RUN} | {"decision_id": decision_id}


def _finish(cycle: Cycle, release: releases.Release) -> releases.Release:
    """What is left to do of a publication: pointer, log, links."""
    with cycle.stage("publish") as stage:
        stage.reused = True
        release = releases.finish(cycle.warehouse, release.release_id)
        shown = releases.last_pointed(cycle.warehouse, cycle.contract.name)
        if shown == release.release_id:
            _point(cycle)
        else:
            cycle.progress.note(
                f"{release.release_id} is published, but readers were pointed to {shown} since: that stays"
                f" (`fieldmart rollback --to {release.release_id}` points here)"
            )
    return release


def _point(cycle: Cycle) -> None:
    for line in served_links.point(cycle.warehouse, cycle.contract.name, cycle.date, cycle.state()["datasets"]):
        cycle.progress.note(line)


def _publish(cycle: Cycle, audits: Path) -> releases.Release:
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
        content = _content(state["datasets"], state["run"]["decision_id"])
        cycle.remember({}, run={"published_id": release.release_id, "published": content})
        _point(cycle)
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
