"""One read-only question in SQL to a release: what the marts say, and nothing else of this machine.

The database is opened read-only, with no file system, no extensions, a fixed configuration, UTC, and bounds on memory,
time, rows and bytes; what is not one SELECT that only reads is refused before it runs.
"""

from __future__ import annotations

import csv
import io
import json
import math
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs import releases

MEMORY = "1GB"
SECONDS = 30.0
ROWS = 1000
BYTES = 64_000_000  # of an answer, about
DRAWN = 16_000_000  # characters of a table: every line of it is as wide as the widest
TOO_DEEP = "the query or a value of its answer is nested too deeply"
# What a SELECT and its WITH may consist of. DuckDB lets WITH hold INSERT, UPDATE, DELETE and COPY as well and still
# calls the whole a SELECT.
READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
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

    Raises QueryError if it is not one SELECT, takes longer than `seconds`, answers more than BYTES or is wrong.
    """
    found = releases.named(warehouse, release) if release else _current(warehouse)
    with opened(found) as mart:
        clock = threading.Timer(seconds, mart.interrupt)
        clock.start()
        try:
            result = mart.execute(only_select(mart, sql))
            rows = _fetched(result, limit + 1)
        except duckdb.InterruptException:
            raise QueryError(f"the query took longer than {seconds:g} s and was stopped") from None
        except duckdb.OutOfMemoryException:
            raise QueryError(f"the query needs more than {MEMORY} of memory: ask for less at a time") from None
        except duckdb.Error as error:
            raise QueryError(said(error)) from None
        except RecursionError:
            raise QueryError(TOO_DEEP) from None
        finally:
            clock.cancel()
        columns = [column[0] for column in result.description or ()]
    return Answer(found.release_id, columns, rows[:limit], len(rows) > limit)


def _current(warehouse: Path) -> releases.Release:
    """The current release; QueryError if there is none, or its pointer leads to none."""
    pointer, why = warehouse / "current.json", "it names no release"
    try:
        found = releases.current(warehouse)
    except releases.ReleaseError as error:
        found, why = None, str(error).removesuffix(": roll back to another")
    if found is not None:
        return found
    if pointer.exists():
        raise QueryError(f"{pointer} is damaged, {why}: `fieldmart heal` writes it anew")
    raise QueryError(f"no release in {warehouse}: run `fieldmart nightly` first")


def _fetched(result: duckdb.DuckDBPyConnection, n: int) -> list[tuple]:
    """The first `n` rows; QueryError as soon as they hold more than BYTES."""
    rows, size = [], 0
    while len(rows) < n and (row := result.fetchone()) is not None:
        size += _size(row)
        if size > BYTES:
            raise QueryError(
                f"the answer must be at most {BYTES // 1_000_000} MB, got more by row {len(rows) + 1}: ask for less"
            )
        rows.append(row)
    return rows


def _size(value: Any) -> int:
    """About the bytes of a value: those of its texts, and eight for anything else."""
    if isinstance(value, str | bytes):
        return 8 + len(value)
    if isinstance(value, dict):
        return 8 + sum(_size(key) + _size(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return 8 + sum(map(_size, value))
    return 8


def opened(release: releases.Release) -> duckdb.DuckDBPyConnection:
    """A connection that can read the release's marts, and do nothing else."""
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
    mart.execute("set TimeZone = 'UTC'")  # the same answer wherever it is asked
    mart.execute("set enable_external_access = false")
    # That still lets the database's own file and its log be read and written by name; this does not.
    mart.execute("set disabled_filesystems = 'LocalFileSystem'")
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
    if statement.type != duckdb.StatementType.SELECT:
        raise QueryError(f"sql must be a SELECT, got {statement.type.name}: releases are only read")
    [(told,)] = mart.execute("select json_serialize_sql(?)", [statement.query]).fetchall()
    parsed = json.loads(told)
    if parsed["error"]:
        raise QueryError(f"sql must be a plain SELECT: {parsed['error_message']}")
    for kind in _parts(parsed):
        if kind not in READING:
            raise QueryError(f"sql must be a SELECT, got {kind.split('_')[0]} in its WITH: releases are only read")
    return statement


def _parts(parsed: Any) -> Iterator[str]:
    """The kinds of the statements that the WITH clauses of a parsed statement hold."""
    waiting = [parsed]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if "query_node" in part:
                yield part["query_node"]["type"]
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def said(error: duckdb.Error) -> str:
    """DuckDB's message in one line, without the picture of where it is."""
    return " ".join(str(error).split("\n\nLINE ")[0].split())


def text(answer: Answer, form: Format) -> str:
    """The answer as CSV with a header, as a JSON list of objects, or as a table for people.

    Raises QueryError if it cannot be told that way.
    """
    try:
        return {"json": _as_json, "csv": _as_csv, "table": _as_table}[form](answer)
    except RecursionError:
        raise QueryError(TOO_DEEP) from None


def _as_json(answer: Answer) -> str:
    """One row a line."""
    twice = [name for name, n in Counter(answer.columns).items() if n > 1]
    if twice:
        raise QueryError(f"JSON must have one column of a name, got more of {', '.join(twice)}: name them with AS")
    rows = (dict(zip(answer.columns, map(_json_value, row), strict=True)) for row in answer.rows)
    return "[" + ",\n ".join(json.dumps(row, default=str, allow_nan=False) for row in rows) + "]"


def _json_value(value: Any) -> Any:
    """JSON has no NaN and no infinity: null, as everywhere that a number cannot be told; its keys are texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _json_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(one) for one in value]
    return value


def _as_csv(answer: Answer) -> str:
    out = io.StringIO()
    written = csv.writer(out, lineterminator="\n")
    written.writerow(answer.columns)
    written.writerows(answer.rows)
    return out.getvalue().rstrip("\n")


def _as_table(answer: Answer) -> str:
    rows = [["" if value is None else str(value) for value in row] for row in answer.rows]
    # As wide as it gets: what is piped somewhere must not be cut to a terminal's width.
    width = sum(max(map(cell_len, cells)) + 3 for cells in zip(answer.columns, *rows, strict=True)) + 1
    if width * (len(rows) + 1) > DRAWN:
        raise QueryError(f"a table must be at most {DRAWN // 1_000_000} MB: use --format csv or json, or ask for less")
    table = Table()
    for name in answer.columns:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # Text: what a value says in brackets is no markup
    console = Console(file=io.StringIO(), width=max(80, width), highlight=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip("\n")
