"""File operations that survive a crash or a second process: exclusive locks and flushes to the disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FLUSHES = 8  # files flushed at a time: a disk takes several in one go


class BusyError(RuntimeError):
    """A lock that somebody else holds; the message says who."""


@contextlib.contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold the exclusive lock file `path` (made if absent); waits for other threads and processes of this machine.

    The lock belongs to the open file, so the kernel releases it when its holder dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def held(path: Path, *, shared: bool = False, note: str = "") -> Generator[None]:
    """Hold the lock file `path` without waiting; BusyError with the holder's note if it is taken.

    Any number may hold it `shared`, one alone otherwise. The lock is the kernel's and ends with the process: a file
    that a dead holder left is no lock. `note` says who holds it, for whoever is refused: in the file, or of each who
    shares it in a file of its own beside it, so that one who leaves takes no other's along.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            told = "; ".join(_shared_notes(path)) or os.pread(descriptor, 1_000, 0).decode(errors="replace").strip()
            raise BusyError(told or str(path)) from None
        os.ftruncate(descriptor, 0)
        if shared:
            with _noted(path, note):
                yield
        else:
            os.pwrite(descriptor, note.encode(), 0)
            yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _noted(path: Path, note: str) -> Generator[None]:
    """Keep `note` in a file beside `path` that is locked, which says that its writer lives."""
    own = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    descriptor = os.open(own, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.pwrite(descriptor, note.encode(), 0)
        yield
    finally:
        own.unlink(missing_ok=True)
        os.close(descriptor)


def _shared_notes(path: Path) -> list[str]:
    """The notes of those who share `path` now; those of the dead are removed."""
    found = []
    for own in sorted(path.parent.glob(f"{path.name}.*")):
        with contextlib.suppress(FileNotFoundError):  # its holder left
            descriptor = os.open(own, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                own.unlink(missing_ok=True)
            except BlockingIOError:
                found.append(os.pread(descriptor, 1_000, 0).decode(errors="replace").strip())
            finally:
                os.close(descriptor)
    return sorted(filter(None, found))


def point(link: Path, target: Path) -> None:
    """Make `link` a relative symlink to the folder `target`, in one rename: a reader sees the old target or the
    new one, and what holds both can be moved.

    Where a folder stands in its place, as in a copy that followed the links, that is put aside first, as
    `.aside/<name>.<id>` beside it: a level deeper than what readers of `*/*.parquet` look at.
    """
    link.parent.mkdir(parents=True, exist_ok=True)
    relative = os.path.relpath(target.resolve(), link.parent.resolve())
    if link.is_symlink() and os.readlink(link) == relative:
        return
    new = link.with_name(f".{link.name}.{uuid.uuid4().hex}")
    try:
        os.symlink(relative, new, target_is_directory=True)
        _put_folder_aside(link)
        os.replace(new, link)
    finally:
        new.unlink(missing_ok=True)
    sync(link.parent)


def unpoint(link: Path) -> None:
    """Remove `link`, if it is there; a folder in its place is put aside as by `point`."""
    _put_folder_aside(link)
    link.unlink(missing_ok=True)


def _put_folder_aside(link: Path) -> None:
    if link.is_dir() and not link.is_symlink():
        aside = link.parent / ".aside"
        aside.mkdir(exist_ok=True)
        os.rename(link, aside / f"{link.name}.{uuid.uuid4().hex}")


def sync(path: Path) -> None:
    """Flush one file's bytes, or one folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, and `folder` itself."""
    found = [path for path in folder.rglob("*") if not path.is_symlink()]
    sync_all(path for path in found if path.is_file())
    for path in sorted((path for path in found if path.is_dir()), reverse=True):  # what a folder holds before it
        sync(path)
    sync(folder)


def sync_all(files: Iterable[Path]) -> None:
    """Flush the bytes of all `files`; several at a time."""
    with ThreadPoolExecutor(FLUSHES) as pool:
        list(pool.map(sync, files))
