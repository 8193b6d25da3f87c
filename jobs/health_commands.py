"""Commands on how the warehouse does: promises, health, the probe of every minute, where a night's time went."""

from __future__ import annotations

import datetime as dt
import json
from typing import Annotated

import typer

from jobs import command_options as options
from jobs import health, slo, stage_times
from jobs.facts import utc
from jobs.night_history import History
from jobs.progress import Progress

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def slo_command(
    contract: options.Contract = options.DEFAULT, warehouse: options.Warehouse = options.ROOT, as_json: AsJson = False
) -> None:
    """How the promises of slo.yml are kept as of now: attained, error budget, trend; exit code 1 if one is broken."""

    def step() -> list[dict]:
        found, policy = options.load(contract), slo.load_slo(options.policy(contract, "slo.yml"))
        root = warehouse.resolve()
        nights = History(root, found, policy).nights()
        return slo.report(root, found, policy, nights, utc(dt.datetime.now(dt.UTC)))

    found = options.guarded(step)
    if as_json:
        typer.echo(json.dumps(found, indent=1, default=str))
    else:
        slo.show(found, Progress().console)
    if slo.broken(found):
        raise typer.Exit(1)


def health_command(
    contract: options.Contract = options.DEFAULT,
    date: options.Date = None,
    warehouse: options.Warehouse = options.ROOT,
    as_json: AsJson = False,
) -> None:
    """Is what readers see fresh and right for DATE? Each check with what it found; exit code 1 if any is red."""

    def step() -> list[health.Check]:
        cycle = options.cycle_of(contract, date, warehouse)
        policy = slo.load_slo(options.policy(contract, "slo.yml"))
        return health.check(cycle, policy, dt.datetime.now(dt.UTC))

    found = options.guarded(step)
    if as_json:
        typer.echo(health.as_json(found))
    else:
        health.show(found, Progress().console)
    if health.is_red(found):
        raise typer.Exit(1)


def probe_command(warehouse: options.Warehouse = options.ROOT) -> None:
    """Look once whether readers can read, and log it (for cron, every minute); exit code 1 if they cannot."""
    found = options.guarded(lambda: health.probe(warehouse))
    if not found.ok:
        typer.echo(f"fieldmart: readers cannot read: {found.detail}", err=True)
        raise typer.Exit(1)
    typer.echo(f"readable in {1000 * (found.seconds or 0):.0f} ms")


def profile_command(
    release: Annotated[str | None, typer.Argument(help="Release id.  [default: the current one]")] = None,
    warehouse: options.Warehouse = options.ROOT,
) -> None:
    """Print where the time of a night went, by stage, and which stage dominates."""
    options.guarded(lambda: stage_times.show(warehouse, release, Progress().console))


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command("slo")(slo_command)
    app.command("health")(health_command)
    app.command("probe")(probe_command)
    app.command("profile")(profile_command)
