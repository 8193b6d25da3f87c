"""`fieldmart rebuild`: a damaged release is built once more from the facts that it was made of.

A release never changes, and this does not change it: what is built must say the same (`content_sha256`, and the bytes
of every mart exported as Parquet), or nothing is touched. Only damaged files are replaced, each in one rename, so a
reader sees a damaged file or a whole one and never none. The bytes of mart.duckdb and of dbt's page are not the same
twice: their hashes in the manifest become those of the new files, and the manifest says when and which were rebuilt. It
is replaced last; killed before, the files count as damaged and the next rebuild does them again.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb

from jobs import dbt_docs, decide, durable, facts, operations_log, releases, warehouse
from jobs.cycle import Cycle
from jobs.lake import LakeError, sha256_file, write_json
from jobs.releases import MART, Release

DOCS = "docs"


class RebuildError(RuntimeError):
    """A release that cannot be rebuilt as it was; the message says what is missing or different."""


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild did: the files it replaced, none if the release was whole."""

    release_id: str
    replaced: list[str]
    seconds: float


def rebuild(cycle: Cycle, release: Release, force: bool = False) -> Rebuilt:
    """Rebuild the damaged files of `release`, which is of `cycle`; with `force` the mart even if it is whole.

    Raises RebuildError if what the facts say now is something else, LakeError if facts are gone or damaged.
    """
    started = time.perf_counter()
    wanted = [name for name, _ in releases.damages(release)] or ([MART] if force else [])
    if not wanted:
        return Rebuilt(release.release_id, [], time.perf_counter() - started)
    folder = release.folder.with_name(f".rebuilding-{release.release_id}")
    with durable.locked(release.folder.parent / f".{release.release_id}.rebuild.lock"):
        shutil.rmtree(folder, ignore_errors=True)  # what a killed one left
        folder.mkdir()
        try:
            _build(cycle, release, folder / MART, docs=any(name.startswith(DOCS) for name in wanted))
            _compare(release, folder)
            replace(release, folder, wanted)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    seconds = time.perf_counter() - started
    said = f"{release.release_id}: {', '.join(wanted[:5])}{' …' if len(wanted) > 5 else ''}"
    operations_log.append(cycle.warehouse, "rebuild", ok=True, seconds=seconds, detail=said)
    return Rebuilt(release.release_id, wanted, seconds)


def _build(cycle: Cycle, release: Release, database: Path, docs: bool) -> None:
    """Both builds of a night over the data sets that the manifest names, and dbt's page if asked for."""
    files, gone = {}, []
    for name, key in json.loads(release.manifest["datasets"]).items():
        if name not in facts.FACTS:
            continue
        dataset = cycle.lake.find(name, key)
        if dataset is None:
            gone.append(f"{name} {key}")
            continue
        dataset.verify()
        files[name] = dataset.files
    if gone:
        raise LakeError(f"facts of release {release.release_id} are gone from the lake: {', '.join(gone)}")
    variables = decide.mart_variables(cycle)
    evidence = {name: files[name] for name in decide.EVIDENCE if name in files}
    parsed = warehouse.parsed_in(cycle.warehouse)
    warehouse.build(database, evidence, select=warehouse.EVIDENCE, variables=variables, parsed=parsed)
    warehouse.build(database, files, exclude=warehouse.EVIDENCE, variables=variables, docs=docs, parsed=parsed)
    if docs:
        dbt_docs.generate(database, database.parent / DOCS)


def _compare(release: Release, folder: Path) -> None:
    """RebuildError unless the mart in `folder` says what the release said."""
    made, told = warehouse.content_hash(folder / MART), release.manifest["content_sha256"]
    warehouse.export_marts(folder / MART, folder / "marts")
    others = [
        name
        for name, entry in release.manifest["files"].items()
        if name.startswith("marts/") and not _says_the_same(release.folder / name, folder / name, entry["sha256"])
    ]
    if made != told or others:
        what = ", ".join(Path(name).stem for name in others) or "the marts"
        raise RebuildError(
            f"release {release.release_id} cannot be rebuilt as it was: {what} would differ. Code, policies or the salt"
            " changed since; check out the commit that `fct_runs` names, or restore the release from a backup"
        )


def _says_the_same(old: Path, new: Path, sha256: str) -> bool:
    """Whether `new` has the bytes that the manifest names or, written by another version, the rows of a whole `old`."""
    if _is(new, sha256):
        return True
    if not (new.is_file() and _is(old, sha256)):
        return False
    with duckdb.connect() as connection:
        rows = [f"select * from read_parquet('{str(path).replace("'", "''")}')" for path in (old, new)]
        both = f"({rows[0]} except all {rows[1]}) union all ({rows[1]} except all {rows[0]})"
        return not connection.execute(f"select 1 from ({both}) limit 1").fetchall()


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_file(path) == sha256


def replace(release: Release, folder: Path, wanted: list[str]) -> None:
    """Put the rebuilt files in place, then the manifest; RebuildError if the release was removed meanwhile."""
    releases.keep_marts_only(folder)
    with durable.locked(release.folder.parent / ".lock"):  # a publication removes old releases under it
        if not (release.folder / "manifest.json").is_file():
            raise RebuildError(f"release {release.release_id} was removed while it was rebuilt")
        _replace(release, folder, wanted)


def _replace(release: Release, folder: Path, wanted: list[str]) -> None:
    manifest = dict(release.manifest)
    was = manifest["files"][MART]["sha256"]
    for name in wanted:
        if not (folder / name).is_file():
            raise RebuildError(f"release {release.release_id}: {name} is not made from facts: restore it from a backup")
    for name in wanted:
        new, path = folder / name, release.folder / name
        new.chmod(0o444)
        durable.sync(new)
        size, sha256 = new.stat().st_size, sha256_file(new)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(new, path)
        durable.sync(path.parent)
        manifest["files"] = manifest["files"] | {name: {"bytes": size, "sha256": sha256}}
    if manifest["files"] != release.manifest["files"]:  # mart.duckdb and dbt's page have other bytes each time
        now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
        event = {"at": now, "files": sorted(wanted), "mart_sha256_before": was}
        manifest["rebuilt"] = [*manifest.get("rebuilt", []), event]
        write_json(release.folder / "manifest.json", manifest)
        (release.folder / "manifest.json").chmod(0o444)
        durable.sync(release.folder)
