"""One read-only question in SQL to a release: what the marts say, and nothing else of this machine.

The database is opened read-only, with no access to files outside the release, no extensions, a fixed configuration and
bounds on memory, time and rows; statements other than a SELECT (or EXPLAIN of one) are refused before they run.
"""

from __future__ import annotations

import csv
import io
import json
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
from rich.console import Console
from rich.table import Table

from jobs import releases

MEMORY = "1GB"
SECONDS = 30.0
ROWS = 1000
ALLOWED = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
Format = Literal["table", "csv", "json"]


class QueryError(ValueError):
    """A question that may not be asked or cannot be answered; one line."""


@dataclass(frozen=True)
class Answer:
    release_id: str
    columns: list[str]
    rows: list[tuple]
    is_cut: bool  # there were more rows than asked for


def run(warehouse: Path, sql: str, release: str | None = None, limit: int = ROWS, seconds: float = SECONDS) -> Answer:
    """The first `limit` rows of `sql` over the marts of `release` (None: the current one).

    Raises QueryError if it is not one SELECT, takes longer than `seconds` or is wrong.
    """
    found = releases.named(warehouse, release) if release else releases.current(warehouse)
    if found is None:
        raise QueryError(f"no release in {warehouse}: run `fieldmart nightly` first")
    with opened(found) as mart:
        statement = only_select(mart, sql)
        clock = threading.Timer(seconds, mart.interrupt)
        clock.start()
        try:
            result = mart.execute(statement)
            rows = result.fetchmany(limit + 1)
        except duckdb.InterruptException:
            raise QueryError(f"the query took longer than {seconds:g} s and was stopped") from None
        except duckdb.OutOfMemoryException:
            raise QueryError(f"the query needs more than {MEMORY} of memory: ask for less at a time") from None
        except duckdb.Error as error:
            raise QueryError(said(error)) from None
        finally:
            clock.cancel()
        columns = [column[0] for column in result.description or ()]
    return Answer(found.release_id, columns, rows[:limit], len(rows) > limit)


def opened(release: releases.Release) -> duckdb.DuckDBPyConnection:
    """A connection that can read the release's marts and files, and do nothing else."""
    mart = duckdb.connect(
        str(release.folder / releases.MART),
        read_only=True,
        config={
            "threads": 2,
            "memory_limit": MEMORY,
            "max_temp_directory_size": "0MB",  # what does not fit fails instead of filling the disk
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,  # a table name must not reach a variable of this program
        },
    )
    mart.execute("set allowed_directories = ?", [[str(release.folder.resolve())]])
    mart.execute("set enable_external_access = false")
    mart.execute("set lock_configuration = true")
    return mart


def only_select(mart: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """The statement in `sql`; QueryError unless it is one that only reads."""
    try:
        statements = mart.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(said(error)) from None
    if len(statements) != 1:
        raise QueryError(f"sql must be one statement, got {len(statements)}")
    [statement] = statements
    if statement.type not in ALLOWED:
        raise QueryError(f"sql must be a SELECT, got {statement.type.name}: releases are only read")
    return statement


def said(error: duckdb.Error) -> str:
    """DuckDB's message in one line, without the picture of where it is."""
    return " ".join(str(error).split("\n\nLINE ")[0].split())


def text(answer: Answer, form: Format) -> str:
    """The answer as CSV with a header, as a JSON list of objects, or as a table for people."""
    if form == "json":
        found = [dict(zip(answer.columns, map(_json_value, row), strict=True)) for row in answer.rows]
        return json.dumps(found, indent=1, default=str, allow_nan=False)
    if form == "csv":
        out = io.StringIO()
        written = csv.writer(out, lineterminator="\n")
        written.writerow(answer.columns)
        written.writerows(answer.rows)
        return out.getvalue().rstrip("\n")
    table = Table()
    for name in answer.columns:
        table.add_column(name, overflow="fold")
    for row in answer.rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    # As wide as it gets: what is piped somewhere must not be cut to a terminal's width.
    console = Console(file=io.StringIO(), width=max(80, _width(answer)), highlight=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip("\n")


def _json_value(value: Any) -> Any:
    """JSON has no NaN and no infinity: null, as everywhere that a number cannot be told."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _width(answer: Answer) -> int:
    cells: list[tuple[Any, ...]] = [tuple(answer.columns), *answer.rows]
    return sum(max(len(str(row[n])) for row in cells) + 3 for n in range(len(answer.columns))) + 1
