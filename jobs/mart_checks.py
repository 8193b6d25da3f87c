"""One number read from one mart and compared with a threshold: what gate rules and release audits have in common.

A mart is only ever read: the file is attached read-only, nothing outside it can be reached, and a check may be one
SELECT over the one mart it names.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import hashlib
import json
import math
import operator
from collections.abc import Collection, Generator
from pathlib import Path
from typing import Annotated, Any, Literal

import duckdb
from pydantic import Field

from jobs.policies import Number, Policy, Text

COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class MartError(RuntimeError):
    """A mart database that cannot be read, or a check that does not fit it."""


class Check(Policy):
    """`metric` (a column or a SQL scalar expression over `mart`, rows kept by `where`) `operator` `threshold`.

    Subqueries may read the marts that `also_reads` names, and no others.
    """

    name: Name
    mart: Name
    also_reads: tuple[Name, ...] = ()
    metric: Text
    where: Text | None = None
    operator: Literal["<", "<=", ">", ">=", "=="]
    threshold: Number
    why: Text

    def holds(self, value: float) -> bool:
        return COMPARE[self.operator](value, self.threshold)


@contextlib.contextmanager
def reading(mart_database: Path) -> Generator[duckdb.DuckDBPyConnection]:
    """A connection that can read `mart_database` and do nothing else.

    The file is attached to an instance of its own: the same process may hold it open with other settings, and a
    file that replaced another under the same path is never answered from the old one's cache.
    """
    if not mart_database.is_file():
        raise MartError(f"mart database must be a file, got {mart_database}, which does not exist")
    connection = duckdb.connect()
    try:
        path = str(mart_database).replace("'", "''")
        connection.execute(f"attach '{path}' as mart (read_only)")
        connection.execute("use mart")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        yield connection
    except duckdb.Error as error:
        raise MartError(f"{mart_database}: {' '.join(str(error).split())}") from None
    finally:
        connection.close()


def tables(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The tables of the mart database, whatever their schema: name -> name in SQL. Views are not marts."""
    rows = connection.execute(
        "select schema_name, table_name from duckdb_tables() where database_name = 'mart' order by all"
    ).fetchall()
    found: dict[str, str] = {}
    for schema, name in rows:
        if name in found:
            raise MartError(f"mart names must be unique, got {name!r} in two schemas ({found[name]} and {schema})")
        found[name] = f'mart."{schema}"."{name}"'
    return found


def one_row(
    connection: duckdb.DuckDBPyConnection, mart: str, columns: str, where: str | None, also_reads: Collection[str] = ()
) -> tuple[Any, ...] | None:
    """The only row of `select columns from mart where …`; None if there is no such mart or no such row.

    Raises MartError for several rows, a column that is not there, or SQL that is more than a SELECT over `mart` and
    the marts of `also_reads`.
    """
    found = tables(connection)
    if not {mart, *also_reads} <= set(found):
        return None
    source = found[mart]
    sql = f"select {columns} from {source}" + (f" where {where}" if where else "")
    try:
        statements = connection.extract_statements(sql)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise MartError(f"metric and where must make one SELECT, got {sql!r}")
        named = connection.get_table_names(sql, qualified=True)  # mart.main.fct_a AS a
        read = {name.split(" AS ")[0].split(".")[-1] for name in named}
        others = sorted(read - {mart, *also_reads})
        if others:
            raise MartError(f"metric and where may read {mart} and what also_reads names, got {', '.join(others)}")
        rows = connection.execute(statements[0]).fetchmany(2)
    except duckdb.Error as error:
        raise MartError(f"{' '.join(str(error).split('LINE 1')[0].split())} (in {sql!r})") from None
    if len(rows) > 1:
        raise MartError(f"metric and where must select one row, got several from {sql!r}")
    return rows[0] if rows else None


def measure(connection: duckdb.DuckDBPyConnection, check: Check) -> float | None:
    """The value of the check's metric; None when the evidence is missing (no mart, no row, NULL or not finite)."""
    try:
        row = one_row(connection, check.mart, check.metric, check.where, check.also_reads)
    except MartError as error:
        raise MartError(f"{check.name}: {error}") from None
    if row is None or row[0] is None:
        return None
    if len(row) > 1 or not isinstance(row[0], (bool, int, float, decimal.Decimal)):
        raise MartError(f"{check.name}: metric must be one number, got {row!r} from {check.metric!r}")
    value = float(row[0])
    return value if math.isfinite(value) else None  # x / 0 is infinite in DuckDB: nothing was measured


def digest(connection: duckdb.DuckDBPyConnection, mart: str) -> str:
    """SHA-256 of a mart's content: its columns and rows, in an order of its own.

    Equal content gives an equal hash whatever the file's layout or the order in which rows were written. A mart that
    does not exist has a hash as well, so that evidence with and without it differs.
    """
    source = tables(connection).get(mart)
    if source is None:
        return hashlib.sha256(b"absent").hexdigest()
    names = [row[0] for row in connection.execute(f"select column_name from (describe {source}) order by 1").fetchall()]
    hasher = hashlib.sha256(json.dumps(names).encode())
    connection.execute(f"select {', '.join(map(_quoted, names))} from {source} order by all")
    while rows := connection.fetchmany(10_000):
        for row in rows:
            hasher.update(json.dumps(row, default=_text).encode() + b"\n")
    return hasher.hexdigest()


def _quoted(name: str) -> str:
    return f'"{name}"'


def _text(value: Any) -> str:
    if isinstance(value, (dt.date, dt.datetime, dt.time)):
        return value.isoformat()
    return str(value)
