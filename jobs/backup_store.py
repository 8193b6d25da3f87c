"""Where backups lie: blobs named by their SHA-256, shared by all backups of the place, and one manifest per backup.

    <target>/blobs/ab/abcd…         the bytes; written once, never changed
    <target>/backups/<id>.json      written last, in one put: a backup exists if and only if this does

The target is a path or any URL that fsspec has a driver for. A single put is whole or absent on an object store; on a
local disk a file is written aside, flushed and renamed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from jobs import durable
from jobs.lake import sha256_file

BLOCK = 1 << 22  # bytes that are read at a time
FORMAT = 1
STAMP = "%Y%m%dT%H%M%S%f"  # of an id


class BackupError(RuntimeError):
    """A backup that cannot be made, found or trusted; the message says what to do."""


class Store:
    """The blobs and manifests below one target."""

    def __init__(self, target: str | Path) -> None:
        if not str(target):
            raise BackupError("the place of backups must be a path or a URL, got nothing: set FIELDMART_BACKUPS")
        try:
            self.fs, self.root = fsspec.core.url_to_fs(str(target))
        except (ImportError, ValueError) as error:
            raise BackupError(f"target {target} cannot be used: {error}") from None
        self.name, self.is_local = str(target), isinstance(self.fs, LocalFileSystem)

    @contextlib.contextmanager
    def writing(self) -> Generator[None]:
        """One backup at a time into a local target; elsewhere that is up to whoever starts them."""
        if not self.is_local:
            yield
            return
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(durable.held(Path(self.root) / ".lock", note=f"process {os.getpid()}"))
            except durable.BusyError as error:
                raise BackupError(f"another backup writes to {self.name} ({error}): wait for it") from None
            except OSError as error:
                raise BackupError(f"{self.name} cannot be used for backups: {error}") from None
            yield

    def blobs(self) -> dict[str, int]:
        """SHA-256 -> bytes of the blobs that are there."""
        self.fs.invalidate_cache()
        if not self.fs.exists(f"{self.root}/blobs"):
            return {}
        found = self.fs.find(f"{self.root}/blobs", detail=True)
        names = {path.rpartition("/")[2]: about["size"] for path, about in found.items()}
        return {name: size for name, size in names.items() if not name.startswith(".")}

    def send(self, source: Path, sha256: str) -> None:
        """Put the bytes of `source` there as blob `sha256`; BackupError if they are others."""
        target = self._blob(sha256)
        if self.is_local:
            with self._renamed(Path(target)) as new:
                _expect(source, _copied(source, new), sha256)
            return
        _expect(source, sha256_file(source), sha256)
        self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        self.fs.put_file(str(source), target)

    def fetch(self, sha256: str, target: Path) -> None:
        """Write blob `sha256` to `target`; BackupError if it is missing or its bytes are not those of its name."""
        hasher = hashlib.sha256()
        try:
            with self.fs.open(self._blob(sha256), "rb") as stream, target.open("wb") as out:
                while block := stream.read(BLOCK):
                    hasher.update(block)
                    out.write(block)
        except FileNotFoundError:
            raise BackupError(f"blob {sha256[:12]} is missing from {self.name}") from None
        if hasher.hexdigest() != sha256:
            raise BackupError(f"blob {sha256[:12]} of {self.name} was changed after writing")

    def fault(self, sha256: str) -> str | None:
        """What is wrong with a blob, in words."""
        hasher = hashlib.sha256()
        try:
            with self.fs.open(self._blob(sha256), "rb") as stream:
                while block := stream.read(BLOCK):
                    hasher.update(block)
        except FileNotFoundError:
            return "is missing"
        except OSError as error:
            return f"cannot be read ({error})"
        return None if hasher.hexdigest() == sha256 else "was changed after writing"

    def ids(self) -> list[str]:
        """Ids of the backups, in the order in which they were begun."""
        self.fs.invalidate_cache()
        if not self.fs.exists(f"{self.root}/backups"):
            return []
        names = (path.rpartition("/")[2] for path in self.fs.find(f"{self.root}/backups"))
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json") and name[0] != ".")

    def new_id(self) -> str:
        """An id that sorts after those of all backups that are there, also if a clock was ahead when they were made:
        the newest is what a restore takes, and what a clean-up keeps."""
        now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        known = [found + dt.timedelta(microseconds=1) for found in map(_stamp, self.ids()) if found]
        return f"{max([now, *known]):{STAMP}}-{uuid.uuid4().hex[:4]}"

    def commit(self, backup_id: str, manifest: dict[str, Any]) -> None:
        """Write the manifest, with a checksum of itself: from here on the backup exists."""
        whole = manifest | {"format": FORMAT, "backup_id": backup_id}
        text = json.dumps(whole | {"sha256": _sha256_of(whole)}, indent=1, sort_keys=True).encode()
        target = self._manifest(backup_id)
        if self.is_local:
            with self._renamed(Path(target)) as new, new.open("wb") as stream:
                stream.write(text)
            return
        self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        self.fs.pipe_file(target, text)

    def manifest(self, backup_id: str | None = None) -> dict[str, Any]:
        """The manifest of a backup, by default of the last; BackupError if there is none or it was changed."""
        known = self.ids()
        if not known:
            raise BackupError(f"no backup in {self.name}: `fieldmart backup {self.name}` makes one")
        chosen = backup_id or known[-1]
        if chosen not in known:
            raise BackupError(f"no backup {chosen!r} in {self.name} (backups: {', '.join(known)})")
        try:
            return self._read(chosen)
        except BackupError as error:
            raise BackupError(f"{error}, take another (--backup)") from None

    def readable(self) -> Iterator[dict[str, Any]]:
        """The manifests that can be read, the newest first."""
        for backup_id in reversed(self.ids()):
            with contextlib.suppress(BackupError):
                yield self._read(backup_id)

    def _read(self, backup_id: str) -> dict[str, Any]:
        try:
            found = json.loads(self.fs.cat_file(self._manifest(backup_id)))
            told = found.pop("sha256")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BackupError(f"backup {backup_id}: its manifest is not readable") from None
        if told != _sha256_of(found):
            raise BackupError(f"backup {backup_id}: its manifest was changed after writing")
        if found["format"] != FORMAT:
            raise BackupError(f"backup {backup_id}: format must be {FORMAT}, got {found['format']}")
        return found

    def prune(self, keep: int) -> tuple[list[str], int]:
        """Remove all but the last `keep` backups and the blobs that no other names; returns ids and bytes freed.

        Each part of the lake (full, facts, manifests) is counted for itself, and only backups without faults count: no
        lesser one takes the place of one that brings back more. Manifests go first, so no backup ever names a blob that
        is gone. Nothing is removed while a manifest cannot be read, BackupError names it: it may name anything.
        """
        needed: set[str] = set()
        gone: list[str] = []
        good: Counter[str] = Counter()
        for backup_id in reversed(self.ids()):
            try:
                manifest = self._read(backup_id)
            except BackupError as error:
                path = self._manifest(backup_id)
                raise BackupError(f"{error}: remove {path} if nobody can mend it") from None
            if good[manifest["lake"]] < keep:
                needed |= {entry["sha256"] for entry in manifest["files"]}
                good[manifest["lake"]] += not manifest["faults"]
            else:
                gone.append(backup_id)
        for backup_id in gone:
            self.fs.rm_file(self._manifest(backup_id))
        unnamed = {name: size for name, size in self.blobs().items() if name not in needed}
        for name in unnamed:
            self.fs.rm_file(self._blob(name))
        return sorted(gone), sum(unnamed.values())

    def sweep(self) -> None:
        """Remove what killed backups left half written; the caller holds the lock."""
        if self.is_local:
            for folder in ("blobs", "backups"):  # what else lies at the target is somebody else's
                for left in Path(self.root, folder).glob("**/.new-*"):
                    left.unlink(missing_ok=True)

    def _blob(self, sha256: str) -> str:
        return f"{self.root}/blobs/{sha256[:2]}/{sha256}"

    def _manifest(self, backup_id: str) -> str:
        return f"{self.root}/backups/{backup_id}.json"

    @staticmethod
    @contextlib.contextmanager
    def _renamed(path: Path) -> Generator[Path]:
        """A file to write that becomes `path` when the block ends well."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".new-{uuid.uuid4().hex}")
        try:
            yield new
            durable.sync(new)
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)
        durable.sync(path.parent)


def _copied(source: Path, target: Path) -> str:
    """Copy the bytes; returns their SHA-256."""
    hasher = hashlib.sha256()
    with source.open("rb") as stream, target.open("wb") as out:
        while block := stream.read(BLOCK):
            hasher.update(block)
            out.write(block)
    return hasher.hexdigest()


def _expect(source: Path, found: str, sha256: str) -> None:
    if found != sha256:
        raise BackupError(f"{source} was changed after writing: its bytes are not those that its manifest names")


def _stamp(backup_id: str) -> dt.datetime | None:
    """The time in an id, UTC; None if it has none."""
    try:
        return dt.datetime.strptime(backup_id.partition("-")[0], STAMP)
    except ValueError:
        return None


def _sha256_of(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
