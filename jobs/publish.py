"""Job: finish the marts, audit them, publish the release. HOLD and NO-GO publish too, with the champion that was."""

from __future__ import annotations

import json
import time
from pathlib import Path

from jobs import (
    dbt_docs,
    decide,
    facts,
    night_history,
    operations_log,
    privacy,
    release_audits,
    releases,
    run_facts,
    served_links,
    slo,
    warehouse,
)
from jobs.cycle import Cycle
from jobs.lake import LakeError
from jobs.stage_parts import Parts

OF_THE_RUN = ("runs", "run_stages", "release", "alias_changes")
OF_THE_RUN += ("operations", "nights", "night_stages", "slo_objectives")


def run(cycle: Cycle, audits: Path, promises: Path = slo.FILE) -> releases.Release:
    """Build the rest of the marts beside the evidence, audit, publish; returns the cycle's release.

    Where that is published already and nothing has changed since, nothing is built: what a crash left undone of its
    publication is done. `promises`: the file slo.yml. Raises AuditError if an audit fails: the last release stays what
    readers see.
    """
    done = _done(cycle)
    if done is not None:
        return _finish(cycle, done)
    started = time.perf_counter()
    try:
        release = _publish(cycle, audits, slo.load_slo(promises))
    except releases.AuditError as error:
        operations_log.append(cycle.warehouse, "publish", ok=False, detail=str(error))
        raise
    took = time.perf_counter() - started
    operations_log.append(cycle.warehouse, "publish", ok=True, seconds=took, detail=release.release_id)
    return release


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
        made = release.manifest
        before = _content(json.loads(made["datasets"]), made["decision_id"], made.get("privacy", ""))
    now = _content(cycle.state()["datasets"], run.get("decision_id", ""), privacy.sign(cycle.contract))
    return {name for name in {*before, *now} if before.get(name, "") != now.get(name, "")}


def _content(datasets: dict[str, str], decision_id: str, shown: str) -> dict[str, str]:
    """What two publications have in common that publish the same: all but what tells of the run itself.

    `shown` says how the marts treat people (privacy.sign).
    """
    kept = {name: key for name, key in datasets.items() if name not in OF_THE_RUN}
    return kept | {"decision_id": decision_id, "privacy": shown}


def _finish(cycle: Cycle, release: releases.Release) -> releases.Release:
    """What is left to do of a publication: pointer, log, links."""
    with cycle.stage("publish") as stage:
        stage.reused = True
        release = releases.finish(cycle.warehouse, release.release_id)
        _show(cycle, release)
    return release


def _show(cycle: Cycle, release: releases.Release) -> None:
    """Point the links at the cycle's data sets, unless readers were pointed elsewhere since, or the guard left it."""
    with served_links.moving(cycle.warehouse):
        shown = releases.last_pointed(cycle.warehouse, cycle.contract.name)
        if shown == release.release_id:
            _point(cycle)
    if shown != release.release_id:
        cycle.progress.note(
            f"{release.release_id} is published, but readers were pointed to {shown} since: that stays"
            f" (`fieldmart rollback --to {release.release_id}` points here)"
        )


def _point(cycle: Cycle) -> None:
    for line in served_links.point(cycle.warehouse, cycle.contract.name, cycle.date, cycle.state()["datasets"]):
        cycle.progress.note(line)


def _publish(cycle: Cycle, audits: Path, promises: slo.Slo) -> releases.Release:
    parts = Parts(cycle, "publish")
    with cycle.stage("publish") as stage:
        database = decide.mart_in_building(cycle)
        state = cycle.state()
        with parts.timed("facts"):
            run_facts.write(cycle, state["run"]["release_id"])
            night_history.write(cycle, promises)
        datasets = cycle.state()["datasets"]  # with these facts, or the release could not be built again
        names = [name for name in facts.FACTS if cycle.has(name)]
        files = {name: cycle.dataset(name).files for name in names}

        shown, variables = decide.privacy_of_evidence(cycle), decide.mart_variables(cycle)
        with parts.timed("dbt"):
            rest, parsed = warehouse.EVIDENCE, warehouse.parsed_in(cycle.warehouse)
            warehouse.build(database, files, exclude=rest, variables=variables, docs=True, parsed=parsed)
        with parts.timed("audits"):
            wanted, marts = release_audits.load_audits(audits), warehouse.marts(database)
            checked = release_audits.audit(database, wanted, marts, state["run"]["release_id"])
        with parts.timed("export"):
            warehouse.export_marts(database, database.parent / "marts")
            dbt_docs.generate(database, database.parent / "docs")
        manifest = {
            "contract": cycle.contract.name,
            "cycle_date": str(cycle.date),
            "content_sha256": warehouse.content_hash(database),
            "decision_id": state["run"]["decision_id"],
            "privacy": shown,
            "data_through": cycle.periods.data_through.isoformat(),
            "datasets": json.dumps(datasets, sort_keys=True),
            **_serving(cycle),
        }
        with parts.timed("seal and flip"):
            release = releases.publish(cycle.warehouse, state["run"]["release_id"], manifest, checked)
        content = _content(datasets, state["run"]["decision_id"], shown)
        cycle.remember({}, run={"published_id": release.release_id, "published": content})
        _show(cycle, release)
        stage.rows = sum(cycle.dataset(name).rows for name in names)
    parts.remember()
    return release


def _serving(cycle: Cycle) -> dict[str, str | None]:
    """What serves: the log tells it when the release is gone."""
    run = cycle.state()["run"]
    return {name: run[name] for name in ("score_source", "serving_model_id")}


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("publish"))
