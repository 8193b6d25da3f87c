"""The commands for when something is lost, or before: backup, restore, verify, drill, rebuild and gc."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from jobs import backup, drill, night_lock, rebuild, releases, restore, retention, verification
from jobs import command_options as options
from jobs.backup_contents import LakePart
from jobs.contract import ContractError
from jobs.progress import Progress

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BackupId = Annotated[str | None, typer.Option("--backup", help="Id of a backup.  [default: the last]")]
Where = typer.Argument(help="A path, or any URL that fsspec has a driver for (s3://…).", envvar="FIELDMART_BACKUPS")
RETENTION = options.CONF / "retention.yml"
SHOWN = 20  # items that a dry run lists in full; --json has all


def backup_command(
    target: Annotated[str, Where],
    warehouse: options.Warehouse = options.ROOT,
    lake: Annotated[
        LakePart,
        typer.Option(help="Of the lake: all that is named, what marts are built from, or the manifests only."),
    ] = LakePart.full,
    keep: Annotated[int | None, typer.Option(min=1, help="Remove all but the last so many whole backups.")] = None,
    conf: Annotated[Path, typer.Option(help="Folder of contracts and policies to take along.")] = options.CONF,
    airflow_db: Annotated[
        Path | None, typer.Option(envvar="FIELDMART_AIRFLOW_DB", help="Airflow's database, if it is an SQLite file.")
    ] = None,
    also: Annotated[list[Path] | None, typer.Option(help="Another file to take along; may be repeated.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read what is there already, send again what is damaged there.")
    ] = False,
    insist: Annotated[bool, typer.Option("--insist", help="Also if the decision log has lost entries.")] = False,
    as_json: AsJson = False,
) -> None:
    """Back up log, pointer, cycles, releases, models, registry and data sets as one set; a night may run meanwhile."""

    def step() -> backup.Made:
        progress = Progress()
        return backup.backup(
            warehouse,
            target,
            lake=lake,
            keep=keep,
            conf=conf,
            airflow_db=airflow_db,
            also=tuple(also or ()),
            check=check,
            insist=insist,
            say=_quiet if as_json else progress.note,
        )

    made = options.guarded(step)
    if as_json:
        typer.echo(json.dumps(asdict(made)))
    else:
        typer.echo(
            f"backup {made.backup_id}: {made.files} files, {_mib(made.bytes)}; sent {made.sent_files},"
            f" {_mib(made.sent_bytes)}, in {made.seconds:.1f} s"
        )
        if made.freed_bytes:
            typer.echo(f"earlier backups removed: {_mib(made.freed_bytes)} freed")
    _fail([*made.faults, *filter(None, [made.not_pruned])])


def restore_command(
    source: Annotated[str, Where],
    warehouse: options.Warehouse = options.ROOT,
    chosen: BackupId = None,
    force: Annotated[
        bool, typer.Option("--force", help="Put a warehouse that is there aside, as <name>.before-<backup>.")
    ] = False,
    lost_at: Annotated[
        dt.datetime | None,
        typer.Option(formats=["%Y-%m-%dT%H:%M:%S"], help="Moment of the loss, UTC, for the RPO.  [default: now]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring a warehouse back; nothing is visible before every checksum was checked. Prints RTO and RPO in seconds."""

    def step() -> restore.Restored:
        lost = lost_at.replace(tzinfo=dt.UTC) if lost_at else None
        say = _quiet if as_json else Progress().note
        return restore.restore(source, warehouse, backup_id=chosen, force=force, lost_at=lost, say=say)

    done = options.guarded(step)
    if as_json:
        typer.echo(json.dumps(asdict(done), default=str))
        return
    typer.echo(f"restored {warehouse} from backup {done.backup_id}: {done.files} files, {_mib(done.bytes)}")
    typer.echo(f"current is {done.release_id}")
    typer.echo(f"rto_s={done.rto_s:.3f} rpo_s={done.rpo_s:.3f}")
    if done.replaced:
        typer.echo(f"what was there is now {done.replaced}")
    for note in done.notes:
        typer.echo(f"fieldmart: {note}", err=True)


def verify_command(
    where: Annotated[
        str | None, typer.Argument(help="A warehouse, or where backups lie.  [default: the warehouse]")
    ] = None,
    warehouse: options.Warehouse = options.ROOT,
    chosen: BackupId = None,
    as_json: AsJson = False,
) -> None:
    """Work out every checksum again, of a warehouse or of backups; one line per fault and exit code 1."""

    def step() -> verification.Verified:
        if where is None:
            releases.require_warehouse(warehouse)
        return verification.verify(where or str(warehouse), chosen)

    found = options.guarded(step)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        typer.echo(f"{found.what}: {found.checked} checked, {len(found.faults)} faults")
    _fail(found.faults)


def drill_command(
    warehouse: options.Warehouse = options.ROOT,
    target: Annotated[
        str | None,
        typer.Option(
            envvar="FIELDMART_BACKUPS", help="Where backups lie.  [default: a temporary folder beside the warehouse]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Back up, restore where nothing else is, compare the rows of every mart; exit code 1 if they differ."""
    found = options.guarded(lambda: drill.drill(warehouse, target, say=_quiet if as_json else Progress().note))
    if as_json:
        said = {"hash_equal": found.hash_equal, "is_regression": found.is_regression}
        typer.echo(json.dumps(asdict(found) | said, default=str))
    else:
        typer.echo(f"hash_equal={str(found.hash_equal).lower()} marts={found.marts}")
        typer.echo(f"rto_s={found.rto_s:.3f} rpo_s={found.rpo_s:.3f} backup_s={found.made.seconds:.3f}")
    if found.is_regression:
        slower = f"{found.slower_by:.0%}" if found.slower_by else ""
        typer.echo(f"fieldmart: recovery is {slower} slower than the median of the last drills", err=True)
    _fail([*(f"{name} differs" for name in found.different), *found.faults])


def rebuild_command(
    release: Annotated[str | None, typer.Argument(help="Release id.  [default: the current one]")] = None,
    contract: options.Contract = options.DEFAULT,
    warehouse: options.Warehouse = options.ROOT,
    force: Annotated[bool, typer.Option("--force", help="Rebuild the mart even if it is whole.")] = False,
) -> None:
    """Build the damaged files of a release once more from its facts, and put them in place if they say the same."""

    def step() -> rebuild.Rebuilt:
        chosen = releases.named(warehouse, release) if release else releases.current(warehouse)
        if chosen is None:
            raise releases.ReleaseError("no release is current: name one, or run the nightly")
        cycle = options.cycle_of(contract, str(chosen.manifest["cycle_date"]), warehouse)
        if cycle.contract.name != chosen.manifest["contract"]:
            raise ContractError(
                f"--contract must be that of {chosen.release_id}, {chosen.manifest['contract']}, got"
                f" {cycle.contract.name}"
            )
        with night_lock.using(cycle.warehouse):
            return rebuild.rebuild(cycle, chosen, force)

    done = options.guarded(step)
    if done.replaced:
        typer.echo(f"{done.release_id}: {', '.join(done.replaced)} rebuilt in {done.seconds:.1f} s, content as before")
    else:
        typer.echo(f"{done.release_id}: nothing is damaged")


def gc_command(
    warehouse: options.Warehouse = options.ROOT,
    rules: Annotated[Path, typer.Option("--retention", help="What is kept for how long (YAML).")] = RETENTION,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would go and the bytes; remove nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what nothing that is kept needs; refuses while a night or a backup runs."""

    def step() -> tuple[list[retention.Item], int]:
        policy = retention.load(rules)
        releases.require_warehouse(warehouse)
        if dry_run:
            items = retention.plan(warehouse, policy)
            return items, sum(item.bytes for item in items)
        with night_lock.alone(warehouse):
            items = retention.plan(warehouse, policy)
            return items, retention.remove(warehouse, items)

    items, size = options.guarded(step)
    if as_json:
        rows = [asdict(item) | {"path": str(item.path)} for item in items]
        typer.echo(json.dumps({"dry_run": dry_run, "bytes": size, "items": rows}))
        return
    if items:
        _show(items)
    typer.echo(f"{len(items)} items, {size:,} bytes {'would be freed' if dry_run else 'freed'}")


def _show(items: list[retention.Item]) -> None:
    table = Table(title="What nothing that is kept needs")
    for name in ("kind", "name", "why"):
        table.add_column(name, overflow="fold")
    for name in ("age in days", "bytes"):
        table.add_column(name, justify="right")
    for item in items[:SHOWN]:
        table.add_row(item.kind, item.name, item.why, f"{item.age_days:.1f}", f"{item.bytes:,}")
    if len(items) > SHOWN:
        rest = sum(item.bytes for item in items[SHOWN:])
        table.add_row("…", f"{len(items) - SHOWN} smaller ones (--json lists all)", "", "", f"{rest:,}")
    Progress().console.print(table)


def _fail(faults: Iterable[str]) -> None:
    """One line each on stderr and exit code 1, if there are any."""
    found = list(faults)
    for fault in found:
        typer.echo(f"fieldmart: {fault}", err=True)
    if found:
        raise typer.Exit(1)


def _quiet(_: Any) -> None:
    """Say nothing: a machine reads."""


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command("backup")(backup_command)
    app.command("restore")(restore_command)
    app.command("verify")(verify_command)
    app.command("drill")(drill_command)
    app.command("rebuild")(rebuild_command)
    app.command("gc")(gc_command)
