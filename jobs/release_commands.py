"""The commands around releases: releases, rollback, guard, asof, lineage, heal and registry."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from jobs import asof, decision_log, exit_codes, guard, heal, model_lineage, pointings, registry, releases, served_links
from jobs import command_options as options
from jobs.contract import load
from jobs.progress import Progress

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def releases_command(
    warehouse: options.Warehouse = options.ROOT,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Recompute the hash of every file; exit code 1 if one is off or a manifest is unreadable."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the releases, oldest first; the current one is marked *, one that the guard left !."""

    def listed() -> list[dict[str, Any]]:
        releases.require_warehouse(warehouse)
        return [_listed(warehouse, release, check) for release in releases.list_releases(warehouse)]

    rows = options.guarded(listed)
    left = options.guarded(lambda: pointings.left(decision_log.entries(warehouse)))
    unreadable = releases.unreadable(warehouse)
    for name in unreadable:
        _warn(f"release {name}: {releases.why_unreadable(warehouse, name)}: it does not count")
    for row in rows:
        row["left_by_guard"] = row["release_id"] in left
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        for row in rows:
            mark = "!" if row["left_by_guard"] else "*" if row["is_current"] else " "
            told = ", ".join(
                (
                    f"data through {row['data_through']}",
                    f"published {row['published_at'][:16]}",
                    f"scores by {row['serving_model_id'] or 'an unrecorded model'}",
                    f"{row['bytes'] / 2**20:.1f} MiB",
                    *([f"damaged: {row['damage']}"] if row["damage"] else []),
                )
            )
            typer.echo(f"{mark} {row['release_id']}  {told}")
    if any(row["damage"] for row in rows) or (check and unreadable):
        raise typer.Exit(exit_codes.FAILED)


def _listed(warehouse: options.Warehouse, release: releases.Release, check: bool) -> dict[str, Any]:
    said = release.manifest
    verdicts = {e.decision_id: e.payload["verdict"] for e in decision_log.entries(warehouse) if e.kind == "decision"}
    names = (
        "contract",
        "cycle_date",
        "data_through",
        "published_at",
        "decision_id",
        "score_source",
        "serving_model_id",
    )
    return {
        "release_id": release.release_id,
        "is_current": release.is_current,
        **{name: said.get(name) for name in names},
        "verdict": verdicts.get(said["decision_id"]),
        "bytes": sum(file["bytes"] for file in said["files"].values()),
        "damage": releases.damage(release) if check else None,
    }


def rollback_command(
    warehouse: options.Warehouse = options.ROOT,
    to: Annotated[str | None, typer.Option(help="Release id.  [default: the one before]")] = None,
) -> None:
    """Point readers back to an earlier release, its scores and its vectors; logged."""

    def step() -> None:
        releases.require_warehouse(warehouse)
        release = releases.rollback(warehouse, to)
        typer.echo(f"current is {release.release_id}")
        for line in served_links.follow_log(warehouse, release.manifest["contract"]):
            _warn(line)

    options.guarded(step)


def guard_command(
    contract: options.Contract = options.DEFAULT,
    warehouse: options.Warehouse = options.ROOT,
    as_json: AsJson = False,
) -> None:
    """Read the gate's live rules on the release published last; go back to the last good one if a hard rule is broken.

    Exit code 6 if it went back, or found nothing to go back to.
    """

    def step() -> guard.Outcome:
        releases.require_warehouse(warehouse)
        found = guard.run(warehouse.resolve(), load(contract).name, options.policy(contract, "gate.yml"), _warn)
        registry.update(warehouse.resolve(), _warn)
        return found

    outcome = options.guarded(step)
    if as_json:
        entry = asdict(outcome.entry) if outcome.entry else None
        typer.echo(json.dumps(asdict(outcome) | {"entry": entry, "line": outcome.line}, indent=2))
    else:
        for checked in outcome.checked:
            typer.echo(f"{checked.outcome:<7} {checked.severity:<4} {checked.text}  [{checked.mart}]")
        typer.echo(outcome.line)
    if outcome.entry is not None:
        raise typer.Exit(exit_codes.ROLLED_BACK)


def exit_if_left(warehouse: Path, release: releases.Release) -> None:
    """Leave with the code that says so if the guard left `release`, which a night published."""
    entry = pointings.left(decision_log.entries(warehouse)).get(release.release_id)
    if entry is not None:
        typer.echo(f"fieldmart: {entry.text}", err=True)
        raise typer.Exit(exit_codes.ROLLED_BACK)


def asof_command(
    when: Annotated[str, typer.Argument(help="YYYY-MM-DD (when that day began) or YYYY-MM-DDTHH:MM, UTC.")],
    contract: Annotated[str | None, typer.Option(help="Name of a contract.  [default: all in the log]")] = None,
    warehouse: options.Warehouse = options.ROOT,
    as_json: AsJson = False,
) -> None:
    """Which release was live at a time, by which model, and who decided that; from the decision log alone."""

    def step() -> list[asof.Live]:
        releases.require_warehouse(warehouse)
        return asof.live(decision_log.entries(warehouse), asof.moment(when), contract)

    found = options.guarded(step)
    if as_json:
        typer.echo(json.dumps([one.record() for one in found], indent=2))
        return
    for one in found:
        table = Table(title=f"{one.contract} at {one.at}", show_header=False, title_justify="left")
        for name, value in one.record().items():
            if name not in ("contract", "at"):
                table.add_row(name, "-" if value is None else str(value))
        Progress().console.print(table)


def lineage_command(
    model_id: Annotated[str, typer.Argument(help="Id of a model in the warehouse, or the alias `champion`.")],
    warehouse: options.Warehouse = options.ROOT,
    verify: Annotated[
        bool, typer.Option("--verify", help="Recompute every hash; exit code 1 if a link is missing or changed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Trace a model to code, lock, environment, data, contract, gate, decision, approver and releases."""

    def step() -> list[model_lineage.Link]:
        releases.require_warehouse(warehouse)
        return model_lineage.trace(warehouse.resolve(), model_id, verify)

    links = options.guarded(step)
    if as_json:
        typer.echo(json.dumps([asdict(link) for link in links], indent=2))
    else:
        for link in links:
            typer.echo(link.line)
    broken = [link for link in links if link.fault is not None]
    if broken and verify:
        typer.echo(f"fieldmart: lineage of {model_id} is broken: {'; '.join(link.named for link in broken)}", err=True)
        raise typer.Exit(exit_codes.FAILED)


def heal_command(
    warehouse: options.Warehouse = options.ROOT,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss",
            help="Where entries of the log are lost for good: log that, set aside what the log does not know.",
        ),
    ] = False,
) -> None:
    """Rebuild aliases, pointer, links and registry from the decision log; says what it changed."""

    def step() -> list[str]:
        releases.require_warehouse(warehouse)
        return heal.run(warehouse.resolve(), accept_loss)

    for line in options.guarded(step):
        typer.echo(line)


def registry_command(warehouse: options.Warehouse = options.ROOT) -> None:
    """Bring the MLflow registry in <warehouse>/registry up to date with the decision log and the model cards."""

    def step() -> registry.Synced:
        releases.require_warehouse(warehouse)
        return registry.sync(warehouse.resolve(), check=True)  # what somebody moved in the store is moved back

    typer.echo(options.guarded(step).line)


def _warn(line: str) -> None:
    typer.echo(f"fieldmart: {line}", err=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command("releases")(releases_command)
    app.command("rollback")(rollback_command)
    app.command("guard")(guard_command)
    app.command("asof")(asof_command)
    app.command("lineage")(lineage_command)
    app.command("heal")(heal_command)
    app.command("registry")(registry_command)
