"""The commands around the decision: decide, approve, waive, ready and log."""

from __future__ import annotations

import datetime as dt
import json
from typing import Annotated

import typer

from jobs import (
    approvals,
    champions,
    decide,
    decision_log,
    exit_codes,
    explain_decision,
    gate,
    night_lock,
    ready,
    releases,
    verification,
)
from jobs import command_options as options
from jobs.contract import load
from jobs.lake import LakeError
from jobs.spark_session import session

By = Annotated[str, typer.Option(help="Who stands for it: one of the gate's approvers.")]
Why = Annotated[str, typer.Option(help="Why, for whoever reads the log.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def decide_command(
    contract: options.Contract = options.DEFAULT,
    date: options.Date = None,
    warehouse: options.Warehouse = options.ROOT,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print every rule, the k compared, what blocks and what would change it.")
    ] = False,
    exit_code: Annotated[
        bool,
        typer.Option("--exit-code", help="End with 0 on GO, 3 for want of evidence, 4 on another HOLD, 5 on NO-GO."),
    ] = False,
) -> None:
    """GO, HOLD or NO-GO by the gate; on GO refit; append to the decision log."""
    code = options.guarded(lambda: _decide(contract, date, warehouse, explain))
    if exit_code and code:
        raise typer.Exit(code)


def _decide(contract: options.Contract, date: options.Date, warehouse: options.Warehouse, explain: bool) -> int:
    cycle = options.cycle_of(contract, date, warehouse)
    entry = champions.last_decision(cycle.warehouse, cycle.contract.name, cycle.date)
    try:
        decide.mart_in_building(cycle)
    except LakeError:
        if entry is None or not explain:  # a published cycle's decision can be explained, not made
            raise
    else:
        with night_lock.night(cycle.warehouse, cycle.contract.name):
            entry = decide.run(cycle, session(cycle.warehouse), options.policy(contract, "gate.yml"))
    if explain:
        approval = champions.approval_of(decision_log.entries(cycle.warehouse), entry.decision_id)
        for line in explain_decision.lines(entry, approval, explain_decision.mart_of(cycle)):
            typer.echo(line)
    else:
        cycle.progress.console.print(f"{entry.payload['verdict']}: {entry.payload['reason']}", soft_wrap=True)
    is_missing = any(rule["outcome"] == "missing" for rule in entry.payload["rules"])
    held = exit_codes.MISSING_EVIDENCE if is_missing else exit_codes.HELD
    return {"GO": 0, "HOLD": held, "NO-GO": exit_codes.REFUSED}[entry.payload["verdict"]]


def approve_command(
    by: By,
    why: Why,
    contract: options.Contract = options.DEFAULT,
    date: options.Date = None,
    warehouse: options.Warehouse = options.ROOT,
    decision: Annotated[
        str | None, typer.Option(help="Id of the decision that was looked at.  [default: the one in force]")
    ] = None,
) -> None:
    """Promote the model of a HOLD all the same: refit, log, make it champion."""

    def step() -> None:
        cycle = options.cycle_of(contract, date, warehouse)
        policy = options.policy(contract, "gate.yml")
        approvals.approvable(cycle, gate.load_gate(policy), by, why, decision)  # before Spark is started for nothing
        with night_lock.night(cycle.warehouse, cycle.contract.name):
            entry = approvals.approve(cycle, session(cycle.warehouse), policy, by, why, decision)
        typer.echo(
            f"approved {entry.payload['decision_id']}: {entry.payload['promotes']} is champion from the cycle of"
            f" {entry.payload['cycle_date']} on; `fieldmart score`, `monitor` and `publish` bring it to readers"
        )

    options.guarded(step)


def waive_command(
    rule: Annotated[str, typer.Option(help="A soft rule of the gate.")],
    by: By,
    why: Why,
    until: Annotated[dt.datetime, typer.Option(formats=["%Y-%m-%d"], help="Last cycle the waiver counts for.")],
    contract: options.Contract = options.DEFAULT,
    date: options.Date = None,
    warehouse: options.Warehouse = options.ROOT,
) -> None:
    """Let a soft rule that fails pass, from the cycle of DATE on; `fieldmart decide` then decides with it."""

    def step() -> None:
        cycle = options.cycle_of(contract, date, warehouse)
        entry = approvals.waive(cycle, options.policy(contract, "gate.yml"), rule, by, why, until.date())
        typer.echo(f"waiver {entry.decision_id}: {entry.text}")

    options.guarded(step)


def ready_command(
    contract: options.Contract = options.DEFAULT,
    warehouse: options.Warehouse = options.ROOT,
    as_json: AsJson = False,
) -> None:
    """The checklist before production, on the release that is served: evidence, or what is missing and exit code 1."""

    def step() -> list[ready.Item]:
        return ready.checklist(warehouse.resolve(), load(contract).name)

    items = options.guarded(step)
    if as_json:
        typer.echo(json.dumps([item.record() for item in items], indent=2))
    else:
        for item in items:
            typer.echo(item.line)
    failed = [item.name for item in items if not item.passed]
    if failed:
        typer.echo(f"fieldmart: not ready: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


log_app = typer.Typer(invoke_without_command=True, help="Verify the decision log and print its entries.")


@log_app.callback()
def log_command(context: typer.Context, warehouse: options.Warehouse = options.ROOT) -> None:
    """Verify the decision log's hash chain and print its entries."""
    if context.invoked_subcommand is None:
        options.guarded(lambda: _show_log(warehouse))


@log_app.command("verify")
def verify_command(warehouse: options.Warehouse = options.ROOT) -> None:
    """Verify the decision log's hash chain; exit code 1 and what is at fault if it does not hold, or lost entries."""

    def step() -> None:
        releases.require_warehouse(warehouse)
        report = decision_log.verify(warehouse)
        verification.refuse_lost_log(warehouse)
        typer.echo(_intact(report))

    options.guarded(step)


def _show_log(warehouse: options.Warehouse) -> None:
    releases.require_warehouse(warehouse)
    report = decision_log.verify(warehouse)
    for entry in decision_log.entries(warehouse):
        who = (
            f"  by {entry.payload['by']}" if "by" in entry.payload and entry.kind not in ("approval", "waiver") else ""
        )
        typer.echo(f"{entry.seq:>4}  {entry.at}  {entry.kind:<9} {entry.text}{who}  {entry.entry_hash[:12]}")
    verification.refuse_lost_log(warehouse)
    typer.echo(_intact(report))


def _intact(report: decision_log.Report) -> str:
    torn = f", {report.torn_bytes} torn bytes ignored" if report.torn_bytes else ""
    return f"{report.entries} entries, chain intact{torn}, head {report.head[:12]}"


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file, but for decide, which has its place among the steps."""
    app.command("approve")(approve_command)
    app.command("waive")(waive_command)
    app.command("ready")(ready_command)
    app.add_typer(log_app, name="log")
