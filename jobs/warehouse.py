"""The marts of a release: dbt builds them from Parquet facts, and they are exported and hashed.

dbt runs as a process of its own and writes everything it leaves (compiled SQL, manifest, log) into the folder `dbt`
beside the database, never into the source tree. The lake's layout is not dbt's business: it finds each fact as a view
in the schema `facts` of the database.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from jobs.facts import FACTS

PROJECT = Path(__file__).resolve().parent.parent / "dbt"

# What `decide` reads; built before decisions, scores and drift of the night exist. The second build excludes it.
EVIDENCE = "tag:evidence"
# Marts that tell of runs and decisions, not of data: two runs over the same data differ in them.
OPERATIONAL = "operational"


class WarehouseError(RuntimeError):
    """dbt failed or its artifacts are missing; the message names each failing model or test."""


def build(
    database: Path,
    facts: Mapping[str, str | Sequence[str]],
    *,
    select: str | None = None,
    exclude: str | None = None,
    variables: Mapping[str, Any] | None = None,
    threads: int = 2,
    unit_tests: bool = False,
) -> None:
    """Build and test the dbt models in `database`: all of them, or those that `select` and `exclude` leave.

    `facts`: name of a fact -> a glob or the list of its Parquet files. Only facts of selected models are needed.
    `variables` override those of dbt_project.yml. `unit_tests` runs the models' formulas on the examples beside them as
    well; they do not depend on the data.
    Raises WarehouseError with each failing node and its message.
    """
    database = database.resolve()  # dbt runs in another folder
    folder = database.parent / "dbt"
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in ("run_results.json", "manifest.json"):
        (folder / "target" / left_over).unlink(missing_ok=True)
    _make_views(database, facts)
    command = [sys.executable, "-c", "from dbt.cli.main import cli; cli()", "--quiet", "build"]
    command += ["--threads", str(threads)]
    command += ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
    command += ["--target-path", str(folder / "target"), "--log-path", str(folder / "logs")]
    command += ["--select", select] if select else []
    command += ["--exclude", exclude] if exclude else []
    command += ["--vars", json.dumps(dict(variables))] if variables else []
    command += [] if unit_tests else ["--exclude-resource-type", "unit_test"]
    told = {
        "FIELDMART_MART": str(database),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
    }
    done = subprocess.run(command, env=os.environ | told, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WarehouseError(
            f"dbt build of {database} failed: {_failures(folder / 'target', done.stdout + done.stderr)}"
        )


def marts(database: Path, *, but_tagged: str | None = None) -> list[str]:
    """Names of the marts dbt last knew when it built `database`, sorted; without those that carry a tag."""
    found = (node for node in _nodes(database) if but_tagged is None or but_tagged not in node["tags"])
    return sorted(node["name"] for node in found)


def export_marts(database: Path, folder: Path) -> None:
    """Write every mart to `folder`/<mart>.parquet, sorted by all columns: equal marts give equal bytes."""
    names = marts(database)
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(database), read_only=True, config={"threads": 1}) as connection:
        for name in names:
            target = _quoted(str(folder / f"{name}.parquet"))
            connection.execute(f'copy (select * from main."{name}" order by all) to {target} (format parquet)')


def content_hash(database: Path) -> str:
    """SHA-256 over what the release says about the data, equal for two runs over the same data.

    Covers all rows of all marts in an order of their own, except marts tagged `operational` (runs, stages, decisions
    of all nights, release, findings, which tell of these) and columns with meta `measured` (times and memory, and the
    dollars that follow from them).
    """
    hasher = hashlib.sha256()
    with duckdb.connect(str(database), read_only=True, config={"threads": 1}) as connection:
        for node in sorted(_nodes(database), key=lambda node: node["name"]):
            if OPERATIONAL in node["tags"]:
                continue
            columns = [name for name, column in node["columns"].items() if not _meta(column).get("measured")]
            names = ", ".join(f'"{name}"' for name in sorted(columns))
            hasher.update(f"{node['name']}: {names}\n".encode())
            connection.execute(f'select {names} from main."{node["name"]}" order by all')
            while rows := connection.fetchmany(10_000):
                hasher.update("".join(f"{row}\n" for row in rows).encode())
    return hasher.hexdigest()


def _nodes(database: Path) -> list[dict[str, Any]]:
    """The manifest's entries of the marts."""
    path = database.parent / "dbt" / "target" / "manifest.json"
    if not path.is_file():
        raise WarehouseError(f"{database} has no dbt manifest ({path}): build it first")
    nodes = json.loads(path.read_text())["nodes"].values()
    return [node for node in nodes if node["resource_type"] == "model" and node["fqn"][1] == "marts"]


def _meta(column: Mapping[str, Any]) -> Mapping[str, Any]:
    return column.get("config", {}).get("meta") or column.get("meta") or {}


def _make_views(database: Path, facts: Mapping[str, str | Sequence[str]]) -> None:
    """A view facts.<name> over the Parquet files of each fact: the sources of the dbt project."""
    unknown = sorted(set(facts) - set(FACTS))
    if unknown:
        raise ValueError(f"facts: names must be among {sorted(FACTS)}, got {unknown}")
    with duckdb.connect(str(database)) as connection:
        connection.execute("create schema if not exists facts")
        for name, given in facts.items():
            files = [given] if isinstance(given, str) else list(given)
            if not files:
                raise ValueError(f"facts: {name} must have at least one Parquet file, got none")
            # Columns come from the files alone: a folder named key=value must not add one.
            listed = ", ".join(_quoted(os.path.abspath(file)) for file in files)
            source = f"read_parquet([{listed}], hive_partitioning = false)"
            connection.execute(f'create or replace view facts."{name}" as select * from {source}')


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _failures(target: Path, output: str) -> str:
    """Failing nodes and their messages, or the end of dbt's output if it did not get to run any."""
    path = target / "run_results.json"
    results = json.loads(path.read_text())["results"] if path.is_file() else []
    failed = [result for result in results if result["status"] in ("error", "fail", "runtime error")]
    if not failed:
        return " ".join(output.split())[-2000:]
    return "; ".join(f"{_name(result['unique_id'])}: {' '.join(str(result['message']).split())}" for result in failed)


def _name(unique_id: str) -> str:
    """`model.fieldmart.dim_model` -> `dim_model`, `test.fieldmart.unique_x.1a2b` -> `unique_x`."""
    return unique_id.split(".")[2]


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("warehouse"))
