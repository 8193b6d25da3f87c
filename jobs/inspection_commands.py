"""Commands that only look: explain a score, print a model card, show the split."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from jobs import command_options as options
from jobs import exit_codes, explain_score, model_card, source_freshness
from jobs.contract import load
from jobs.cycle import Cycle
from jobs.periods import PARTS


def explain_command(
    entity: Annotated[str, typer.Option(help="Entity id, as in the scores.")],
    candidate: Annotated[str | None, typer.Option(help="Candidate id.  [default: the entity's best]")] = None,
    contract: options.Contract = options.DEFAULT,
    date: options.Date = None,
    warehouse: options.Warehouse = options.ROOT,
    top: Annotated[int, typer.Option(min=1, help="Terms to print.")] = 15,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with all terms.")] = False,
) -> None:
    """Take a published score apart: the terms of its logit by field and pair of fields, which sum to it."""

    def step() -> None:
        cycle = options.cycle_of(contract, date, warehouse)
        found = explain_score.run(cycle, entity, candidate)
        if as_json:
            typer.echo(explain_score.as_json(found))
        else:
            explain_score.show(found, cycle.progress.console, top)

    options.guarded(step)


def card_command(
    model: Annotated[
        str | None, typer.Argument(help="Model id.  [default: the champion of the current release]")
    ] = None,
    contract: options.Contract = options.DEFAULT,
    warehouse: options.Warehouse = options.ROOT,
) -> None:
    """Print a model card in Markdown: target, need, quality beside the baselines, slices, decisions, lineage."""
    options.guarded(lambda: typer.echo(model_card.run(warehouse, load(contract), model)))


def split_command(
    contract: options.Contract = options.DEFAULT, date: options.Date = None, warehouse: options.Warehouse = options.ROOT
) -> None:
    """Show which periods train, stop early, calibrate and test, and what lies between and after them."""

    def step() -> None:
        cycle = options.cycle_of(contract, date, warehouse)
        cycle.progress.console.print(split_table(cycle))

    options.guarded(step)


def split_table(cycle: Cycle) -> Table:
    """One row per part in time order; periods in no part stand where they lie."""
    rates = cycle.dataset("label_rates").table().to_pylist()
    names = ("part", "first period", "last period", "periods", "exposures", "conversions", "labels")
    table = Table(title=f"{cycle.contract.name} {cycle.date}: nothing from {cycle.periods.data_through} on is read")
    for name in names:
        table.add_column(name, justify="left" if name in names[:3] else "right")
    runs: list[list[dict]] = []
    for row in sorted(rates, key=lambda row: row["period"]):
        if runs and (runs[-1][-1]["split"], runs[-1][-1]["is_mature"]) == (row["split"], row["is_mature"]):
            runs[-1].append(row)
        else:
            runs.append([row])
    for run in runs:
        part = run[0]["split"] if run[0]["split"] in PARTS else "(none)"
        sums = [f"{sum(row[name] for row in run):,}" for name in ("exposures", "conversions")]
        labels = "final" if run[0]["is_mature"] else "immature"
        table.add_row(part, str(run[0]["period"]), str(run[-1]["period"]), str(len(run)), *sums, labels)
    return table


def freshness_command(
    contract: options.Contract = options.DEFAULT,
    date: options.Date = None,
    warehouse: options.Warehouse = options.ROOT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how old the facts of a published cycle are (`dbt source freshness`); exit code 1 if one is too old."""

    def step() -> None:
        cycle = options.cycle_of(contract, date, warehouse)
        rows = source_freshness.check(cycle)
        if as_json:
            typer.echo(source_freshness.as_json(rows))
        else:
            cycle.progress.console.print(source_freshness.table(cycle, rows))
        if any("error" in row["status"] for row in rows):
            raise typer.Exit(exit_codes.FAILED)

    options.guarded(step)


def add_to(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command("explain")(explain_command)
    app.command("card")(card_command)
    app.command("split")(split_command)
    app.command("freshness")(freshness_command)
