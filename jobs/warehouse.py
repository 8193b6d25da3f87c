"""The marts of a release: dbt builds them from Parquet facts, and they are exported and hashed.

dbt runs in another process (jobs.dbt_process) and writes everything it leaves (compiled SQL, manifest, log) into the
folder `dbt` beside the database, never into the source tree. The lake's layout is not dbt's business: it finds each
fact as a view in the schema `facts` of the database.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from jobs import dbt_process
from jobs.facts import FACTS

PROJECT = Path(__file__).resolve().parent.parent / "dbt"

# What `decide` reads; built before decisions, scores and drift of the night exist. The second build excludes it.
EVIDENCE = "tag:evidence"
# Marts that tell of runs and decisions, not of data: two runs over the same data differ in them.
OPERATIONAL = "operational"
# The oldest form of DuckDB's file in which the marts are no larger than in the newest: clients from 1.2 on read it, and
# those that BI tools bring along are often behind. A file stays in the form it was created in.
STORAGE = "v1.2.0"
# What dbt made of the project's files, which the next build need not make again.
PARSED = "partial_parse.msgpack"


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
    docs: bool = False,
    parsed: Path | None = None,
) -> None:
    """Build and test the dbt models in `database`: all of them, or those that `select` and `exclude` leave.

    `facts`: name of a fact -> a glob or the list of its Parquet files. Only facts of selected models are needed.
    `variables` override those of dbt_project.yml. `unit_tests` runs the models' formulas on the examples beside them as
    well; they do not depend on the data. `docs` makes the page that jobs.dbt_docs takes.
    `parsed`: folder that keeps what dbt made of its files from one build to the next, without it one of this process;
    dbt itself sees whether files, variables or versions changed since.
    Raises WarehouseError with each failing node and its message.
    """
    database = database.resolve()  # dbt runs in another folder
    target = database.parent / "dbt" / "target"
    target.mkdir(parents=True, exist_ok=True)
    for left_over in ("run_results.json", "manifest.json"):
        (target / left_over).unlink(missing_ok=True)
    parsed = parsed or Path(_parsed_here().name)
    if (parsed / PARSED).is_file():
        shutil.copyfile(parsed / PARSED, target / PARSED)
    _make_views(database, facts)
    arguments = ["--threads", str(threads)]
    arguments += ["--select", select] if select else []
    arguments += ["--exclude", exclude] if exclude else []
    arguments += [] if unit_tests else ["--exclude-resource-type", "unit_test"]
    told = ["--vars", json.dumps(dict(variables))] if variables else []
    # What was built has its compiled SQL in the page; compiling the rest again would take longer than all of it.
    page = ["docs", "generate", "--no-compile", "--static", *told] if docs else None
    done = _dbt(database, [["build", *arguments, *told], *([page] if page else [])])
    if (target / PARSED).is_file():
        _keep_parsed(target / PARSED, parsed)
    if not done.success:
        raise WarehouseError(f"dbt build of {database} failed: {_failures(target, done.output)}")


def freshness(database: Path, facts: Mapping[str, str | Sequence[str]]) -> list[dict[str, Any]]:
    """How old each fact is against the thresholds of its source: rows of `dbt source freshness`, as in sources.json.

    `database` is made for it. Raises WarehouseError if dbt could not look.
    """
    database = database.resolve()
    made = database.parent / "dbt" / "target" / "sources.json"
    made.parent.mkdir(parents=True, exist_ok=True)
    made.unlink(missing_ok=True)
    _make_views(database, facts)
    done = _dbt(database, [["source", "freshness", "--select", *(f"source:fieldmart.{name}" for name in facts)]])
    if not made.is_file():  # it fails if a fact is too old as well
        raise WarehouseError(f"dbt source freshness failed: {' '.join(done.output.split())[-2000:]}")
    return json.loads(made.read_text())["results"]


def _dbt(database: Path, commands: list[list[str]]) -> dbt_process.Done:
    """Run dbt commands on `database`; what they leave lies in the folder `dbt` beside it."""
    folder = database.parent / "dbt"
    folder.mkdir(parents=True, exist_ok=True)
    paths = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
    paths += ["--target-path", str(folder / "target"), "--log-path", str(folder / "logs")]
    told = {
        # Seen from `folder`, and so the same in every build: dbt parses anew when a variable of its profile changes.
        "FIELDMART_MART": os.path.join("..", database.name),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
    }
    # Each statement in the log would take a tenth of the time; compiled and run SQL lie in `target` anyhow.
    quiet = ["--quiet", "--log-level-file", "warn"]
    return dbt_process.run([[*quiet, *command, *paths] for command in commands], folder, os.environ | told)


def parsed_in(root: Path) -> Path:
    """Where the builds of one warehouse keep what dbt made of its files (`parsed` of `build`)."""
    return root / "work" / "dbt"


@functools.cache
def _parsed_here() -> tempfile.TemporaryDirectory[str]:
    """Gone with this process."""
    return tempfile.TemporaryDirectory(prefix="fieldmart-dbt-")


def marts(database: Path, *, but_tagged: str | None = None) -> list[str]:
    """Tables of the marts dbt last knew when it built `database`, sorted; without those that carry a tag."""
    found = (node for node in _nodes(database) if but_tagged is None or but_tagged not in node["tags"])
    return sorted(node["alias"] for node in found)


def export_marts(database: Path, folder: Path) -> None:
    """Write every mart to `folder`/<mart>.parquet: equal marts give equal bytes.

    Sorted by all columns, the key first, so that a reader who asks for one entity skips the row groups (122,880 rows)
    of the others.
    """
    names = marts(database)
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(database), read_only=True, config={"threads": 1}) as connection:
        for name in names:
            target = _quoted(str(folder / f"{name}.parquet"))
            rows = f'select * from main."{name}" order by all'
            connection.execute(f"copy ({rows}) to {target} (format parquet, compression zstd)")


def content_hash(database: Path) -> str:
    """SHA-256 over what the release says about the data, equal for two runs over the same data.

    Covers all rows of all marts, in whatever order, except marts tagged `operational` (runs, stages, decisions of all
    nights, release, findings, which tell of these) and columns with meta `measured` (times and memory, and the dollars
    that follow from them). Of a mart, the rows' MD5 are summed up: ten million rows need neither a sort nor memory.
    """
    hasher = hashlib.sha256()
    with duckdb.connect(str(database), read_only=True) as connection:
        for node in sorted(_nodes(database), key=lambda node: node["alias"]):
            if OPERATIONAL in node["tags"]:
                continue
            columns = [name for name, column in node["columns"].items() if not _meta(column).get("measured")]
            names = ", ".join(f'"{name}"' for name in sorted(columns))
            row = f"cast(row({names}) as varchar)"
            sums = f"count(*), sum(md5_number_lower({row})), sum(md5_number_upper({row}))"
            found = connection.execute(f'select {sums} from main."{node["alias"]}"').fetchall()
            hasher.update(f"{node['alias']}: {names}: {found}\n".encode())
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
    with duckdb.connect(str(database), config={"storage_compatibility_version": STORAGE}) as connection:
        connection.execute("create schema if not exists facts")
        for name, given in facts.items():
            files = [given] if isinstance(given, str) else list(given)
            if not files:
                raise ValueError(f"facts: {name} must have at least one Parquet file, got none")
            # Columns come from the files alone: a folder named key=value must not add one.
            listed = ", ".join(_quoted(os.path.abspath(file)) for file in files)
            source = f"read_parquet([{listed}], hive_partitioning = false)"
            connection.execute(f'create or replace view facts."{name}" as select * from {source}')


def _keep_parsed(made: Path, parsed: Path) -> None:
    parsed.mkdir(parents=True, exist_ok=True)
    unfinished = parsed / f".{PARSED}.{os.getpid()}"
    shutil.copyfile(made, unfinished)
    os.replace(unfinished, parsed / PARSED)


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
