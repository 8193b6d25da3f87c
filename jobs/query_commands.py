"""Commands that ask a release: SQL over its marts, and where a score comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs import command_options as options
from jobs import query_mart, score_trace
from jobs.contract import load
from jobs.progress import Progress

Release = Annotated[str | None, typer.Option(help="Release id.  [default: the current one]")]


def sql_command(
    sql: Annotated[str, typer.Argument(help="One SELECT over the marts; `show tables` lists them.")],
    release: Release = None,
    form: Annotated[query_mart.Format, typer.Option("--format", help="How to print it.")] = "table",
    limit: Annotated[int, typer.Option(min=1, help="Rows to print at most.")] = query_mart.ROWS,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds after which it is stopped.")] = query_mart.SECONDS,
    warehouse: options.Warehouse = options.ROOT,
) -> None:
    """Ask a release a question in SQL: read-only, no files, bounded memory, time, rows and bytes."""

    def step() -> query_mart.Answer:
        answer = query_mart.run(warehouse, sql, release, limit, timeout)
        typer.echo(query_mart.text(answer, form))
        return answer

    answer = options.guarded(step)
    if answer.is_cut:
        typer.echo(f"fieldmart: the first {limit} rows of {answer.release_id}; --limit shows more", err=True)


def trace_command(
    entity: Annotated[str, typer.Option(help="Entity id, or its hash where the marts show hashes.")],
    candidate: Annotated[str | None, typer.Option(help="Candidate id.  [default: the entity's best]")] = None,
    release: Release = None,
    contract: options.Contract = options.DEFAULT,
    warehouse: options.Warehouse = options.ROOT,
    rows: Annotated[int, typer.Option(min=0, help="Exposures of the entity to print.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Trace a published score back: release, decision, model, feature values, snapshot rows and source files."""

    def step() -> None:
        found = score_trace.run(warehouse, load(contract), entity, candidate, release, rows)
        if as_json:
            typer.echo(score_trace.as_json(found))
        else:
            score_trace.show(found, Progress().console)

    options.guarded(step)


def add_to(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("sql")(sql_command)
    app.command("trace")(trace_command)
