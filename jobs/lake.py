"""Content-addressed data sets (Parquet, or arrays): written to a run-scoped folder, visible by a manifest written last.

    lake/<name>/<key>/manifest.json          visible if and only if this exists
    lake/<name>/<key>/<run>/part-*.parquet

The key is a hash of the inputs' content, the parameters and the code that makes the data set, so the same step over
the same things finds its result instead of computing it again, and a crash leaves nothing that anyone would read.
"""

from __future__ import annotations

import ast
import contextlib
import datetime as dt
import functools
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import durable, facts

PROJECT = Path(__file__).resolve().parent.parent


class LakeError(RuntimeError):
    """A data set that is missing, damaged or written by another version; the message says what to run."""


@dataclass(frozen=True)
class Dataset:
    """One committed version of a data set."""

    name: str
    key: str
    folder: Path
    manifest: dict[str, Any]

    @property
    def root(self) -> Path:
        """Where the files lie; absolute, since a task on another host has another working directory."""
        return (self.folder / self.manifest["run"]).resolve()

    @property
    def files(self) -> list[str]:
        return [str(self.root / entry["path"]) for entry in self.manifest["files"]]

    @property
    def rows(self) -> int:
        return sum(entry["rows"] for entry in self.manifest["files"])

    @property
    def bytes(self) -> int:
        return sum(entry["bytes"] for entry in self.manifest["files"])

    @property
    def content(self) -> str:
        """SHA-256 over the hashes of the files: equal content, equal hash, whatever the folder."""
        lines = [f"{entry['path']} {entry['sha256']}" for entry in self.manifest["files"]]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def under(self, *folders: str) -> list[str]:
        """The files below any of `folders` (for example "split=train")."""
        return [str(self.root / e["path"]) for e in self.manifest["files"] if e["path"].split("/")[0] in folders]

    @property
    def only_file(self) -> str:
        """The path of a data set of one file; ValueError if there are more."""
        [path] = self.files
        return path

    def table(self) -> pa.Table:
        """The whole data set; for facts and vocabularies, which are small."""
        return pa.concat_tables([pq.ParquetFile(path).read() for path in self.files])

    def verify(self) -> None:
        """Raise LakeError if a file's bytes are not those of the manifest."""
        for entry in self.manifest["files"]:
            path = self.root / entry["path"]
            if not path.exists() or sha256_file(path) != entry["sha256"]:
                raise LakeError(f"{self.name} {self.key}: file {entry['path']} is missing or was changed after writing")


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Replace `path` atomically; a reader sees the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("w") as stream:
            json.dump(value, stream, indent=1, sort_keys=True, default=str)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:  # a full disk must not fill up with tries
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; a file that is missing, cannot be read or holds something else says nothing."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@functools.cache
def code_sha(module: str) -> str:
    """SHA-256 over the source of project module `module` and of every project module it imports."""
    seen: dict[str, bytes] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        path = PROJECT / Path(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in seen or not path.exists():
            continue
        seen[name] = path.read_bytes()
        tree = ast.parse(seen[name])
        # What runs only when the file is the program (a job's command line) makes no data.
        tree.body = [node for node in tree.body if not _is_program(node)]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            else:
                continue
            todo += [item for item in found if item.split(".")[0] in ("jobs", "ffm_udf")]
    return hashlib.sha256(b"".join(name.encode() + seen[name] for name in sorted(seen))).hexdigest()


def _is_program(node: ast.stmt) -> bool:
    """Whether it is `if __name__ == "__main__": …`."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


class Lake:
    """The data sets under one warehouse root."""

    def __init__(self, warehouse: Path) -> None:
        self.root = warehouse / "lake"

    def key(self, name: str, module: str, inputs: dict[str, str], params: Any) -> str:
        """The address of data set `name` made by `module` from `inputs` (name -> content hash) with `params`."""
        parts = {"name": name, "code": code_sha(module), "inputs": inputs, "params": params}
        return sha256_json(parts | {"schema_version": facts.SCHEMA_VERSION})[:16]

    def find(self, name: str, key: str) -> Dataset | None:
        """The committed data set, or None; a data set whose files are gone or cut short counts as absent."""
        folder = self.root / name / key
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            if manifest["schema_version"] != facts.SCHEMA_VERSION:
                return None
            for entry in manifest["files"]:
                path = folder / manifest["run"] / entry["path"]
                if not path.exists() or path.stat().st_size != entry["bytes"]:
                    return None
                _ = entry["rows"], entry["sha256"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # damaged, in whatever way
            return None
        return Dataset(name, key, folder, manifest)

    @contextlib.contextmanager
    def writing(self, name: str, key: str, inputs: dict[str, str] | None = None, params: Any = None) -> Generator[Path]:
        """A fresh folder to write Parquet into; leaving the block without an error makes it the data set.

        The block's files are renamed to stable names, hashed and made read-only before the manifest appears. A second
        writer of the same key waits for the first, whose data set then stays: others may be reading it.
        """
        folder = self.root / name / key
        with durable.locked(folder / ".lock"):
            yield from self._commit(name, key, inputs, params)

    def _commit(self, name: str, key: str, inputs: dict[str, str] | None, params: Any) -> Generator[Path]:
        folder = self.root / name / key
        run = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        target = folder / run
        target.mkdir(parents=True)
        try:
            yield target
            files = _settle(target)
            durable.sync_tree(target)  # before the manifest: whatever survives a power cut, a manifest has its files
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        if self.find(name, key) is not None:
            shutil.rmtree(target)
            return
        manifest = {
            "name": name,
            "key": key,
            "run": run,
            "schema_version": facts.SCHEMA_VERSION,
            "inputs": inputs or {},
            "params": params,
            "files": files,
            "written_at": dt.datetime.now(dt.UTC).isoformat(),
        }
        write_json(folder / "manifest.json", manifest)
        durable.sync(folder)
        for other in folder.iterdir():  # what crashed or superseded runs left behind
            if other.is_dir() and other != target:
                shutil.rmtree(other, ignore_errors=True)

    def write_fact(self, name: str, key: str, rows: list[dict] | pa.Table) -> Dataset:
        """Write fact `name` with its declared schema and return it."""
        table = facts.table(name, rows)
        with self.writing(name, key) as folder:
            pq.write_table(table, folder / "part-00000.parquet")
        return self.get(name, key)

    def get(self, name: str, key: str) -> Dataset:
        found = self.find(name, key)
        if found is None:
            raise LakeError(f"data set {name} {key} is not in {self.root}")
        return found


def _settle(target: Path) -> list[dict[str, Any]]:
    """Give Spark's part files names without the run's UUID, drop its side files, hash and protect every file."""
    for junk in [*target.rglob("_SUCCESS"), *target.rglob(".*.crc")]:
        junk.unlink()
    for folder in sorted({path.parent for path in target.rglob("*.parquet")}):
        for index, path in enumerate(sorted(folder.glob("*.parquet"))):
            path.rename(folder / f"part-{index:05d}.parquet")
    entries = []
    for path in sorted(path for path in target.rglob("*") if path.is_file()):
        rows = pq.ParquetFile(path).metadata.num_rows if path.suffix == ".parquet" else 0
        about = {"path": str(path.relative_to(target)), "rows": rows, "bytes": path.stat().st_size}
        entries.append(about | {"sha256": sha256_file(path)})
        path.chmod(0o444)
    return entries
