"""Mart databases by hand: every mart as its dbt contract declares it, with the rows a test gives."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import duckdb
import yaml

PROJECT = Path(__file__).parent.parent


@functools.cache
def models() -> list[dict[str, Any]]:
    """What the files beside the marts declare."""
    paths = sorted((PROJECT / "dbt" / "models" / "marts").glob("*.yml"))
    return [model for path in paths for model in yaml.safe_load(path.read_text())["models"]]


def contracts() -> dict[str, dict[str, str]]:
    """mart -> column -> SQL type."""
    return {model["name"]: {column["name"]: column["data_type"] for column in model["columns"]} for model in models()}


def evidence_marts() -> set[str]:
    """The marts that dbt builds before the decision."""
    return {model["name"] for model in models() if "evidence" in model.get("config", {}).get("tags", [])}


def build(path: Path, rows: dict[str, list[dict[str, Any]]]) -> Path:
    """A new mart database at `path` with the marts that `rows` names; columns that a row does not give are NULL."""
    path.unlink(missing_ok=True)
    declared = contracts()
    with duckdb.connect(str(path)) as connection:
        connection.execute("begin")  # one commit, one flush
        for mart, content in rows.items():
            columns = ", ".join(f"{name} {kind}" for name, kind in declared[mart].items())
            connection.execute(f"create table {mart} ({columns})")
            for row in content:
                names, marks = ", ".join(row), ", ".join("?" * len(row))
                connection.execute(f"insert into {mart} ({names}) values ({marks})", list(row.values()))
        connection.execute("commit")
    return path
