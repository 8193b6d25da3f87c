"""The files that a source consists of: which ones count, what columns they have and which of them are read.

A path may be one file, a glob, or a folder that grows. A file with the bytes of another one (delivered again under a
new name) is read once; a file whose columns are not the contract's is refused as a whole and the others are read.
"""

from __future__ import annotations

import csv
import glob
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.lake import sha256_file

READ, REPEATED, REFUSED = "read", "repeated", "refused"

# What a Parquet column of each contract type may be.
FITS = {
    "string": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    "integer": pa.types.is_integer,
    "number": lambda kind: pa.types.is_integer(kind) or pa.types.is_floating(kind),
    "boolean": pa.types.is_boolean,
    "timestamp": pa.types.is_timestamp,
}


@dataclass(frozen=True)
class SourceFile:
    """One file of a table: `name` is its path below the folder that the contract names."""

    table: str
    name: str
    path: Path
    bytes: int
    sha256: str
    outcome: str  # read | repeated | refused
    reason: str | None = None
    columns: tuple[tuple[str, str], ...] = ()  # of Parquet name and type, of CSV name and "text"
    rows: int | None = None  # of a Parquet file, by its footer

    def record(self) -> dict[str, Any]:
        """The row of the data set `source_files`."""
        names = ("table", "name", "bytes", "sha256", "outcome", "reason", "rows")
        return {name: getattr(self, name) for name in names} | {"path": str(self.path)}


def root_of(path: str) -> Path:
    """The folder that file names are told from: `path` itself if it is one, else the part before any wildcard."""
    found = Path(path)
    if found.is_dir():
        return found
    steps = found.parts
    wild = next((n for n, step in enumerate(steps) if glob.has_magic(step)), len(steps) - 1)
    return Path(*steps[: min(wild, len(steps) - 1)])


def listed(path: str) -> list[Path]:
    """The files of `path` in order of their names, without hidden ones and those that begin with `_`, as Spark does;
    none for what is no path of this machine (a URL)."""
    found = Path(path)
    every = found.rglob("*") if found.is_dir() else (Path(name) for name in glob.glob(path, recursive=True))
    root = root_of(path)
    below = (p for p in every if p.is_file() and not any(s[0] in "._" for s in p.relative_to(root).parts))
    return sorted(below)


def named(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def survey(table: str, path: str, columns: Mapping[str, Any]) -> list[SourceFile]:
    """Every file of `path`, hashed, and whether it is read; `columns` are those that each must have, by contract."""
    found: list[SourceFile] = []
    seen: dict[str, str] = {}
    root = root_of(path)
    for file in listed(path):
        sha, name = sha256_file(file), named(file, root)
        one = SourceFile(table, name, file, file.stat().st_size, sha, READ)
        if sha in seen:
            found.append(replace(one, outcome=REPEATED, reason=f"the same bytes as {seen[sha]}"))
            continue
        seen[sha] = name
        found.append(_examined(one, columns, _partition_columns(name)))
    return found


def _partition_columns(name: str) -> set[str]:
    """Columns that folders named column=value bring."""
    return {step.split("=", 1)[0] for step in name.split("/")[:-1] if "=" in step}


def _examined(file: SourceFile, columns: Mapping[str, Any], given: set[str]) -> SourceFile:
    """`file` with its columns, and refused if one of `columns` is neither in it nor `given` by its folders."""
    try:
        have, rows = _text_columns(file.path) if file.path.suffix == ".csv" else _parquet_columns(file.path)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError, csv.Error) as error:
        text = str(error).strip().splitlines()[0]
        return replace(file, outcome=REFUSED, reason=f"cannot be read: {text}")
    faults = [f"column {name} is missing" for name in columns if name not in have and name not in given]
    faults += [
        f"column {name} must be of type {rule.type}, got {have[name]}"
        for name, rule in columns.items()
        if name in have and isinstance(have[name], pa.DataType) and not _fits(have[name], rule.type)
    ]
    told = tuple((name, str(kind)) for name, kind in have.items())
    outcome = REFUSED if faults else READ
    return replace(file, outcome=outcome, reason="; ".join(faults) or None, columns=told, rows=rows)


def _fits(kind: pa.DataType, wanted: str) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return FITS[wanted](value)


def _parquet_columns(file: Path) -> tuple[dict[str, Any], int]:
    with pq.ParquetFile(file) as opened:
        schema = opened.schema_arrow
        return dict(zip(schema.names, schema.types, strict=True)), opened.metadata.num_rows


def _text_columns(file: Path) -> tuple[dict[str, Any], None]:
    with file.open(newline="") as stream:
        return dict.fromkeys(next(csv.reader(stream), []), "text"), None
